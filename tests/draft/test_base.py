"""Laws of what drafters share: how much of their own tokens a prefix still has, and the confidence cut."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from localspec.draft.base import KnownPrefix, common_length, guess_from_row
from tests.helpers.support import prefix_of

tokens = st.lists(st.integers(0, 2), max_size=20)


@given(tokens, tokens)
def test_common_length_is_where_they_part(a: list[int], b: list[int]) -> None:
    """Equal before it, and different or over at it."""
    n = common_length(a, b)
    assert a[:n] == b[:n]
    assert n in (len(a), len(b)) or a[n] != b[n]


@given(tokens, tokens, st.data())
def test_knowing_a_part_changes_nothing(a: list[int], b: list[int], data: st.DataObject) -> None:
    """Starting from a length that is known to agree gives the same."""
    n = common_length(a, b)
    assert common_length(a, b, data.draw(st.integers(0, n))) == n


@given(st.lists(st.tuples(st.sampled_from(["grow", "own", "cut", "new"]), tokens), max_size=12))
def test_shared_is_the_common_beginning_after_any_history(steps: list[tuple[str, list[int]]]) -> None:
    """Appending to either side, cutting its own, or a new prefix: never more or less than what agrees."""
    known, own, prefix = KnownPrefix(), [0, 1], prefix_of([0, 1])
    for what, some in steps:
        if what == "grow":
            prefix.tokens.extend(some)
        elif what == "own":
            own.extend(some)
        elif what == "cut":
            del own[len(some) :]
        else:
            prefix = prefix_of(some)
        assert known.shared(own, prefix) == common_length(own, prefix.tokens)


def test_confidence_is_the_probability() -> None:
    """Of the token that the drafter chooses."""
    row = np.log(np.array([0.3, 0.5, 0.2], np.float32))
    token, sure = guess_from_row(prefix_of([0]), row, [])
    assert (token, round(sure, 6)) == (1, 0.5)


def test_certainty_passes_every_cut() -> None:
    """The only possible token has probability 1."""
    row = np.array([0.0, -math.inf, -math.inf], np.float32)
    assert guess_from_row(prefix_of([0]), row, []) == (0, 1.0)
