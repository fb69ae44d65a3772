"""Laws of the recommended pairs: they fit where they are recommended, and more memory never gets a smaller one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localspec.models.recommended import GIB, RECOMMENDED, RecommendedPair, recommended

DOWNLOADS = RECOMMENDED[1:]


def test_first_is_built_in_and_the_others_are_downloads() -> None:
    """``tiny`` needs nothing."""
    assert RECOMMENDED[0].target == "tiny"
    assert [pair.built_in for pair in RECOMMENDED] == [True] + [False] * len(DOWNLOADS)
    assert RECOMMENDED[0].download == 0


@pytest.mark.parametrize("pair", DOWNLOADS, ids=lambda pair: pair.target)
def test_pair_fits_in_two_thirds_of_the_memory_it_is_recommended_for(pair: RecommendedPair) -> None:
    """A Mac's GPU gets two thirds; the pair needs more than the size of its files.

    A drafter's file is a twentieth of its target's at most. Heads read the target's output matrix for each token.
    """
    assert pair.download < pair.needs <= pair.memory * 2 / 3
    assert pair.drafter_size < pair.target_size / (20 if pair.drafter_file else 4)


@given(st.integers(0, 256 * GIB), st.integers(0, 256 * GIB))
def test_more_memory_never_gets_a_smaller_pair(a: int, b: int) -> None:
    """A pair never needs more memory than there is."""
    small, large = recommended(min(a, b)), recommended(max(a, b))
    assert small.needs <= large.needs
    assert small.built_in or small.needs <= min(a, b)


@pytest.mark.parametrize("i", range(1, len(RECOMMENDED)))
def test_pair_is_recommended_from_its_memory_on(i: int) -> None:
    """One byte less gets the pair before it."""
    memory = RECOMMENDED[i].memory
    assert recommended(memory) is RECOMMENDED[i]
    assert recommended(memory - 1) is RECOMMENDED[i - 1]


@pytest.mark.parametrize("pair", DOWNLOADS, ids=lambda pair: pair.target)
def test_note_names_the_machine_that_gets_the_pair(pair: RecommendedPair) -> None:
    """The machine of that many GB, of which the system keeps a twentieth for itself."""
    (gb,) = re.findall(r"(\d+) GB", pair.note)
    assert recommended(int(float(gb) * 0.95 * GIB)) is pair
