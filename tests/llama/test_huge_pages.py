"""Laws of huge pages: for which memory of the process they are requested."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localspec.llama.huge_pages import HugePages, private_ranges, subtract

MAPS = """\
55d0c0000000-55d0c0021000 r-xp 00000000 fe:00 1234                       /usr/bin/python3
55d0c1000000-55d0c1100000 rw-p 00000000 00:00 0                          [heap]
7f0000000000-7f0010000000 rw-p 00000000 00:00 0
7f0020000000-7f0030000000 r--p 00000000 fe:00 99                         /models/some model.gguf
7f0040000000-7f0050000000 rw-s 00000000 00:01 7                          /dev/shm/x
"""
ranges = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)).map(lambda r: (r[0], r[0] + r[1])), max_size=6)


def test_only_writable_memory_without_a_file_counts() -> None:
    """Neither the program nor a mapped model nor what is shared, nor the heap."""
    assert private_ranges(MAPS.splitlines()) == [(0x7F0000000000, 0x7F0010000000)]


@given(ranges, ranges)
def test_subtract_is_the_difference(new: list[tuple[int, int]], known: list[tuple[int, int]]) -> None:
    """Point by point."""

    def points(found: list[tuple[int, int]]) -> set[int]:
        return {at for start, end in found for at in range(start, end)}

    assert points(subtract(new, known)) == points(new) - points(known)


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="this system has no huge pages")
def test_new_memory_is_asked_for_once() -> None:
    """Older memory, and memory that was requested before, is left alone."""
    pages = HugePages()
    with mmap.mmap(-1, 64 * 2**20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        assert len(memory) - 2**22 <= pages.request()
        assert pages.request() == 0
        memory[:4] = b"good"
        assert memory[:4] == b"good"
