"""Laws of the recommended pairs: they fit where they are recommended, and more memory never gets a smaller one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localspec.models.recommended import GIB, RECOMMENDED, Pair, recommended

GEMMA = RECOMMENDED[1:]


def test_first_is_built_in_and_the_others_are_downloads() -> None:
    """``tiny`` needs nothing."""
    assert RECOMMENDED[0].target == "tiny"
    assert [pair.built_in for pair in RECOMMENDED] == [True] + [False] * len(GEMMA)
    assert RECOMMENDED[0].download == 0


@pytest.mark.parametrize("pair", GEMMA, ids=lambda pair: pair.target)
def test_pair_fits_in_two_thirds_of_the_memory_it_is_recommended_for(pair: Pair) -> None:
    """Which is what a Mac gives its GPU; and the memory holds more than the files."""
    assert pair.download < pair.needs <= pair.memory * 2 / 3
    assert pair.drafter_size < pair.target_size / 20


@pytest.mark.parametrize("pair", GEMMA, ids=lambda pair: pair.target)
def test_pair_is_said_in_full(pair: Pair) -> None:
    """Licence and a few words."""
    assert pair.licence == "Apache-2.0"
    assert pair.note
    assert pair.title in "Gemma 4 E2B, Gemma 4 E4B, Gemma 4 12B, Gemma 4 26B-A4B, Gemma 4 31B"


@given(st.integers(0, 256 * GIB), st.integers(0, 256 * GIB))
def test_more_memory_never_gets_a_smaller_pair(a: int, b: int) -> None:
    """And no memory gets one that it has not."""
    small, large = recommended(min(a, b)), recommended(max(a, b))
    assert small.needs <= large.needs
    assert small.built_in or small.needs <= min(a, b)


@pytest.mark.parametrize(
    ("gib", "target"),
    [
        (0, "tiny"), (4, "tiny"), (7.7, "gemma-4-e2b-qat"), (8, "gemma-4-e2b-qat"), (16, "gemma-4-e4b-qat"),
        (24, "gemma-4-12b-qat"), (31.2, "gemma-4-26b-a4b-qat"), (48, "gemma-4-26b-a4b-qat"), (64, "gemma-4-31b-qat"),
    ],
)  # fmt: skip
def test_usual_machines(gib: float, target: str) -> None:
    """Also where the system keeps some of the memory for itself."""
    assert recommended(int(gib * GIB)).target == target
