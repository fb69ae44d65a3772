"""Huge pages for the weights that llama.cpp keeps in private memory (Linux only).

A pass over one token reads every weight once, page after page. Where ``/sys/kernel/mm/transparent_hugepage/enabled`` is
``madvise``, as in Ubuntu and Fedora, only memory for which a program requests them has huge pages. llama.cpp does not
request them and gets pages of 4 KiB. The request never changes a byte, so its failure is no error.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

#: Smallest piece of memory that is worth a request, in bytes.
_LEAST = 16 * 2**20
#: Size of a huge page, in bytes.
_HUGE = 2 * 2**20
#: madvise(2)'s advice for huge pages.
_MADV_HUGEPAGE = 14
#: First address, and the address behind the last.
Range = tuple[int, int]


def private_ranges(maps: Iterable[str]) -> list[Range]:
    """The writable memory without a file in the lines of ``/proc/self/maps`` (see proc(5))."""
    found = []
    for line in maps:
        fields = line.split()
        if len(fields) == 5 and fields[1] == "rw-p" and fields[4] == "0":
            start, _, end = fields[0].partition("-")
            found.append((int(start, 16), int(end, 16)))
    return found


def subtract(ranges: Iterable[Range], known: Iterable[Range]) -> list[Range]:
    """The parts of ``ranges`` that are not in ``known``."""
    left = list(ranges)
    for a, b in known:
        left = [piece for x, y in left for piece in ((x, min(y, a)), (max(x, b), y)) if piece[0] < piece[1]]
    return left


class HugePages:
    """Requests huge pages for the memory that the process was given since this was made."""

    def __init__(self) -> None:
        self._known = _current_ranges()

    def request(self) -> int:
        """Request them, before the new memory is written to. Returns the bytes that were requested."""
        new, requested = subtract(_current_ranges(), self._known), 0
        for start, end in new:
            first, last = -(-start // _HUGE) * _HUGE, end // _HUGE * _HUGE
            if last - first >= _LEAST and _madvise(first, last - first):
                requested += last - first
        self._known += new
        return requested


def _current_ranges() -> list[Range]:
    if sys.platform == "linux":
        with suppress(OSError):
            return private_ranges(Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines())
    return []


def _madvise(start: int, length: int) -> bool:
    with suppress(OSError, AttributeError):
        return bool(ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), _MADV_HUGEPAGE) == 0)
    return False
