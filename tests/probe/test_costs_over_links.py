"""Laws of the costs of passes over a link: a change of width counts, and what only a first pass does is left out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from localspec.probe.costs import curve_from_samples, measure_passes, were_disturbed

#: Seconds of a row, of a pass that sends its graph, and of the first pass of a width.
ROW, GRAPH, FIRST = 0.01, 0.04, 0.5


class Linked:
    """A context whose passes take the time of a link; ``split``: the layers elsewhere."""

    def __init__(self, split: object) -> None:
        self.model: Any = SimpleNamespace(placement=SimpleNamespace(split=split))
        self.passes: list[tuple[int, float]] = [(4, ROW)]
        self._seen, self._last = set[int](), 0

    def rewind(self, length: int) -> None: ...

    def mark(self) -> None: ...

    def decode(self, tokens: list[int], outputs: str = "all") -> None:
        n = len(tokens)
        seconds = ROW * n + (GRAPH if n != self._last else 0) + (FIRST if n not in self._seen else 0)
        self._seen.add(n)
        self._last = n
        self.passes.append((n, seconds))


@pytest.mark.parametrize("thorough", [False, True])
def test_wide_passes_cost_their_graph_and_that_of_the_next_single_one(thorough: bool) -> None:
    """A draft among single tokens changes the width twice."""
    samples = measure_passes(Linked(object()), [1] * 200, 8, thorough=thorough)
    found = curve_from_samples(samples, linked=True)
    assert found.seconds(1) == pytest.approx(ROW)
    for width in (2, 4, 8):
        assert found.seconds(width) == pytest.approx(ROW * width + 2 * GRAPH)
    assert not were_disturbed(samples, linked=True)


def test_earlier_passes_do_not_count_over_a_link() -> None:
    """They may have followed one of their own width."""
    here, linked = (measure_passes(Linked(at), [1] * 200, 4, thorough=False) for at in (None, object()))
    assert curve_from_samples(here).seconds(4) == pytest.approx(ROW)
    assert curve_from_samples(linked, linked=True).seconds(4) > 4 * ROW
