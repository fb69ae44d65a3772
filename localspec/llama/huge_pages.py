"""Huge pages for the weights that llama.cpp keeps in private memory (Linux; elsewhere nothing happens).

A pass over one token reads every weight once, page after page. Where the system gives huge pages only to who asks
(``/sys/kernel/mm/transparent_hugepage/enabled`` says ``madvise``, as in Ubuntu and Fedora), llama.cpp, which does not
ask, gets pages of 4 KiB. Advice changes where bytes lie, never what they are, so a failure is no error.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

#: Smaller pieces of memory are left as they are, in bytes.
_LEAST = 16 * 2**20
_HUGE = 2 * 2**20
_MADV_HUGEPAGE = 14
Range = tuple[int, int]


def private_ranges(maps: Iterable[str]) -> list[Range]:
    """Start and end of the writable memory without a file in the lines of ``/proc/self/maps`` (see proc(5))."""
    found = []
    for line in maps:
        fields = line.split()
        if len(fields) == 5 and fields[1] == "rw-p" and fields[4] == "0":
            start, _, end = fields[0].partition("-")
            found.append((int(start, 16), int(end, 16)))
    return found


def beyond(ranges: Iterable[Range], known: Iterable[Range]) -> list[Range]:
    """What of ``ranges`` is not in ``known``."""
    left = list(ranges)
    for a, b in known:
        left = [piece for x, y in left for piece in ((x, min(y, a)), (max(x, b), y)) if piece[0] < piece[1]]
    return left


class HugePages:
    """Asks for huge pages for the memory that the process was given since this was made."""

    def __init__(self) -> None:
        self._known = _ranges()

    def ask(self) -> int:
        """To be called before the new memory is written to. Returns the bytes that were asked for."""
        new, asked = beyond(_ranges(), self._known), 0
        for start, end in new:
            first, last = -(-start // _HUGE) * _HUGE, end // _HUGE * _HUGE
            if last - first >= _LEAST and _advise(first, last - first):
                asked += last - first
        self._known += new
        return asked


def _ranges() -> list[Range]:
    if sys.platform == "linux":
        with suppress(OSError):
            return private_ranges(Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines())
    return []


def _advise(start: int, length: int) -> bool:
    with suppress(OSError, AttributeError):
        return bool(ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), _MADV_HUGEPAGE) == 0)
    return False
