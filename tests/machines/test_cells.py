"""Laws of the passes by which a lost cache is filled again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localspec.machines.cells import Cells


def replayed(cells: Cells, widest: int) -> tuple[dict[int, list[int]], list[int]]:
    """The tokens of every sequence after a replay, and the widths of its passes."""
    cache, widths = dict[int, list[int]](), list[int]()
    request: Any
    for request in cells.replay(widest):
        if request[0] == "run":
            job = request[1]
            tokens = cache.setdefault(job.sequence, [])
            assert job.parts[0].start == len(tokens)
            tokens += job.parts[0].tokens
            widths.append(len(job.parts[0].tokens))
            assert job.n_out == 0
        elif request[1] == "remove":
            del cache[request[2]][request[3] :]
        else:
            cache[request[2]] = list(request[3])
    return {sequence: tokens for sequence, tokens in cache.items() if tokens}, widths


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 2), st.lists(st.integers(0, 99), min_size=1, max_size=6)),
        st.tuples(st.just("remove"), st.integers(0, 2), st.integers(-1, 12)),
        st.tuples(st.just("copy"), st.integers(0, 2), st.integers(0, 2)),
        st.tuples(st.just("state"), st.integers(0, 2), st.binary(min_size=1, max_size=6)),
    ),
    max_size=20,
)


@given(steps, st.sampled_from([0, 1, 4, 64]))
def test_a_replay_makes_the_same_cells(steps: list[tuple[str, int, Any]], widest: int) -> None:
    """After passes, rewinds, copies and saved states in any order."""
    cells, cache = Cells(), dict[int, list[int]]()
    for name, sequence, value in steps:
        tokens = cache.setdefault(sequence, [])
        if name == "add":
            cells.add(sequence, value, len(tokens))
            tokens += value
        elif name == "remove":
            cells.remove(sequence, value)
            del tokens[max(value, 0) :]
        elif name == "copy" and sequence != value:
            cells.copy(sequence, value)
            cache[value] = list(tokens)
        elif name == "state":
            cells.set_state(sequence, value)
            cache[sequence] = list(value)
    found, widths = replayed(cells, widest)
    assert found == {sequence: tokens for sequence, tokens in cache.items() if tokens}
    assert not widest or all(width <= widest for width in widths)


def test_passes_are_repeated_as_they_were() -> None:
    """Where cells depend on them: also the part that was removed."""
    cells = Cells()
    cells.add(0, range(5), 0)
    cells.remove(0, 2)
    cells.add(0, [7], 2)
    assert replayed(cells, 0) == ({0: [0, 1, 7]}, [5, 1])
    assert replayed(cells, 64) == ({0: [0, 1, 7]}, [3])


@pytest.mark.parametrize("widest", [0, 64])
def test_a_cleared_cache_needs_nothing(widest: int) -> None:
    cells = Cells()
    cells.add(0, [1], 0)
    cells.clear()
    assert replayed(cells, widest) == ({}, [])
