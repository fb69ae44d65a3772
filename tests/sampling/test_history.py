"""Laws of the tokens that penalties look back at: they are the answer and the draft, however long and often asked."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from localspec.sampling.penalties import History, _Counts, repetitions

#: New tokens of the answer, then draft tokens behind it, a step after the other.
steps = st.lists(
    st.tuples(st.lists(st.integers(0, 9), max_size=9), st.lists(st.integers(0, 9), max_size=5)), max_size=12
)


@given(steps, st.sampled_from([0, 1, 1015, 1024, 3000]), st.sampled_from([0, 1, 3, 64, 5000]))
def test_a_history_is_the_answer_and_the_draft(
    taken: list[tuple[list[int], list[int]]], first: int, window: int
) -> None:
    """The draft of the last step is forgotten; counts are those of the window. Its memory doubles when it is full."""
    history, counts, tokens = History(), _Counts(window), [i % 7 for i in range(first)]
    room = 1024
    for new, ahead in [([], []), *taken]:
        tokens += new
        history.update(tokens, ahead)
        whole = [*tokens, *ahead]
        assert (history.committed, history.end) == (len(tokens), len(whole))
        ids = history.last(window)
        assert ids.tolist() == (whole[-window:] if window else [])
        found = Counter(ids.tolist())
        assert counts.count(ids, history).tolist() == [found[i] for i in ids.tolist()]
        assert history.between(1, 4).tolist() == whole[1:4] if len(whole) > 3 else True
        room = 2 * len(whole) if len(whole) > room else room
        assert len(history._buffer) == room


@given(st.lists(st.integers(0, 2), min_size=1, max_size=40), st.integers(0, 40))
def test_repetitions_are_common_ends(window: list[int], cap: int) -> None:
    """Of the text up to each token and of the whole."""
    expected = []
    for i in range(len(window) - 1):
        same = 0
        while same <= i and window[i - same] == window[len(window) - 1 - same]:
            same += 1
        expected.append(min(same, cap))
    assert repetitions(np.array(window), cap).tolist() == expected
