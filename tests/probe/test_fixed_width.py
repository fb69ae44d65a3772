"""Laws of the probe of padded passes: which widths are exact, and which of them is worth its cost."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localspec.generation.passes import EDGE
from localspec.params import FIXED_WIDTHS
from localspec.probe.batch_invariance import probe
from localspec.probe.fixed_width import DEAREST, PaddedFindings, compare_padded, probe_padded
from localspec.protocols import Outputs, Rows
from tests.probe.test_probe import TEXT, Made

#: Room for a long cache.
LONG = 704


@pytest.mark.parametrize("width", FIXED_WIDTHS)
def test_rows_that_depend_on_the_width_alone_are_exact(width: int) -> None:
    """Where passes of several widths are not; also where the first one reads more than 256 cells."""
    context = Made(lambda rows, row, cached: [0.01 * rows, 0, 0, 0, 0, 0], n_ctx=LONG)
    assert compare_padded(context, TEXT, width) == 0.0
    assert {rows for _, rows in context.passes if rows not in (32, 33 - width)} == {width}
    assert (EDGE + 1 - width, width) in context.passes
    assert probe(context, TEXT).width == 1


@pytest.mark.parametrize("at", [range(33), range(200, 300), range(600, LONG)], ids=["short", "edge", "long"])
@pytest.mark.parametrize("row", [1, 3])
def test_a_row_that_depends_on_its_place_is_found(row: int, at: range) -> None:
    """Behind a few tokens, around the 256th cell, or in a long cache."""
    context = Made(lambda width, place, cached: [0.5 * (place == row and cached in at), 0, 0, 0, 0, 0], n_ctx=LONG)
    assert compare_padded(context, TEXT, 4) == pytest.approx(0.5)


def test_every_number_of_real_tokens_is_tried() -> None:
    """Three of four, too: what fills a pass must not matter."""

    class Filled(Made):
        def decode(self, tokens: Sequence[int], outputs: Outputs = "all") -> Rows:
            rows = super().decode(tokens, outputs)
            rows[:1] += 0.5 * (len(tokens) == 4 and tokens[2] == tokens[3] and len(set(tokens)) == 3)
            return rows

    assert compare_padded(Filled(n_ctx=LONG), TEXT, 4) == pytest.approx(0.5)


def test_cells_that_depend_on_their_place_are_found() -> None:
    """By the row behind a pass, though all rows of the pass itself are equal."""

    class Cells(Made):
        def decode(self, tokens: Sequence[int], outputs: Outputs = "all") -> Rows:
            seen = sum(self.cells)
            rows = super().decode(tokens, outputs)
            rows += np.float32(seen)
            return rows

    assert compare_padded(Cells(cell=lambda width, row: int(width == 4 and row == 2), n_ctx=LONG), TEXT, 4) > 0


def test_a_small_context_is_compared_as_far_as_it_goes() -> None:
    """And no pass is beyond its end."""
    context = Made(n_ctx=100)
    assert compare_padded(context, TEXT, 16) == 0.0
    assert max(cached + rows for cached, rows in context.passes) <= 100


class Timed(Made):
    """Passes of n rows take ``cost(n)`` seconds, and rows of passes in ``wrong`` widths depend on their place."""

    def __init__(self, cost: Callable[[int], float], wrong: Sequence[int] = ()) -> None:
        super().__init__(lambda width, row, cached: [0.5 * row * (width in wrong), 0, 0, 0, 0, 0], n_ctx=LONG)
        self._cost = cost

    def decode(self, tokens: Sequence[int], outputs: Outputs = "all") -> Rows:
        self.decode_s += self._cost(len(tokens))
        return super().decode(tokens, outputs)


def flat(width: int) -> float:
    """A GPU: eight rows cost little more than one."""
    return 1.0 + 0.005 * (width - 1) + 0.1 * (width > 12)


def steep(width: int) -> float:
    """A CPU."""
    return 0.3 + 0.7 * width


@pytest.mark.parametrize(
    ("cost", "wrong", "dearest", "choice", "compared"),
    [
        (flat, (), DEAREST, 8, [8]),
        (flat, (8,), DEAREST, 6, [6, 8]),
        (flat, FIXED_WIDTHS, DEAREST, None, [2, 3, 4, 6, 8]),
        (steep, (), DEAREST, None, []),
        (steep, (), math.inf, 2, [2]),
        (steep, (2, 3), math.inf, 4, [2, 3, 4]),
        (flat, (), math.inf, 12, [12]),
    ],
)
def test_the_exact_width_that_is_worth_most_is_chosen(
    cost: Callable[[int], float], wrong: Sequence[int], dearest: float, choice: int | None, compared: list[int]
) -> None:
    """Of those that are not too dear; none that is worth less is compared."""
    found, context = PaddedFindings(), Timed(cost, wrong)
    probe_padded(context, TEXT, found, dearest=dearest)
    assert found.choice(dearest) == choice
    assert sorted(found.differences) == compared
    assert context.tokens == []


@given(st.dictionaries(st.integers(2, 16), st.floats(1.0, 20.0), min_size=1, max_size=5), st.integers(2, 16))
def test_the_worth_of_a_width_is_its_tokens_by_its_cost(costs: dict[int, float], widest: int) -> None:
    """With seven of ten draft tokens accepted: one, and the first, and the second where the first is, and so on."""
    found = PaddedFindings(costs)
    worth = {width: sum(0.7**i for i in range(width)) / cost for width, cost in costs.items()}
    for width in costs:
        assert found.worth(width) == pytest.approx(worth[width])
    assert found.best_up_to(widest) == pytest.approx(max([1.0, *(w for n, w in worth.items() if n <= widest)]))


def test_what_is_done_next() -> None:
    """Widths are timed from the narrowest on, up to one that is too dear; then the best ones are compared."""
    cheap = dict.fromkeys(FIXED_WIDTHS, 1.0)
    widest = FIXED_WIDTHS[-1]
    assert PaddedFindings().pending(1.05) == ("time", 2)
    assert PaddedFindings({2: 1.0}).pending(1.05) == ("time", 3)
    assert PaddedFindings({2: 1.5}).pending(1.05) == ("time", 3)
    assert PaddedFindings({2: 1.51}).pending(1.05) is None
    assert PaddedFindings({2: 1.75}).pending(1.75) == ("time", 3)
    assert PaddedFindings({2: 1.76}).pending(1.75) is None
    assert PaddedFindings(cheap).pending(1.0) == ("compare", widest)
    assert PaddedFindings(cheap).pending(0.99) is None
    assert PaddedFindings(cheap, {widest: 0.0}).pending(1.05) is None
    assert PaddedFindings(cheap, {widest: 0.5}).pending(1.05) == ("compare", FIXED_WIDTHS[-2])
    assert PaddedFindings(cheap, {widest: 0.5, FIXED_WIDTHS[-2]: 0.0}).choice(1.05) == FIXED_WIDTHS[-2]
    assert PaddedFindings(cheap, {widest: 0.5}).choice(1.05) is None
    assert PaddedFindings({2: 1.05}, {2: 0.0}).choice(DEAREST) == 2
    assert PaddedFindings({2: 1.06}, {2: 0.0}).choice(DEAREST) is None


def test_wide_passes_are_not_timed_where_narrow_ones_are_dear() -> None:
    """They would be dearer."""
    found = PaddedFindings()
    probe_padded(Timed(steep), TEXT, found, dearest=DEAREST)
    assert list(found.costs) == [2]
    assert found.costs[2] == pytest.approx(1.7)


def test_a_busy_machine_does_not_make_wide_passes_cheap() -> None:
    """Passes over one row are timed by turns with them, and one quick pass of each is enough."""

    class Busy(Timed):
        def decode(self, tokens: Sequence[int], outputs: Outputs = "all") -> Rows:
            self.decode_s += 9.0 * (len(self.passes) < 8)
            return super().decode(tokens, outputs)

    found = PaddedFindings()
    probe_padded(Busy(steep), TEXT, found, dearest=DEAREST)
    assert found.costs[2] == pytest.approx(1.7)


def test_the_width_of_the_user_is_compared_alone() -> None:
    """Whatever it costs."""
    found, kept = PaddedFindings(), list[PaddedFindings]()
    probe_padded(Timed(steep, (6,)), TEXT, found, only=6, checkpoint=kept.append)
    assert kept == [found]
    assert (list(found.differences), found.costs) == ([6], {})
    assert found.differences[6] == pytest.approx(2.5)


@given(st.integers(0, 12))
def test_an_interrupted_probe_goes_on(steps: int) -> None:
    """With what is missing."""

    def stop(found: PaddedFindings) -> None:
        if len(found.costs) + len(found.differences) > steps:
            raise KeyboardInterrupt

    found, context = PaddedFindings(), Timed(flat, (8,))
    with suppress(KeyboardInterrupt):
        probe_padded(context, TEXT, found, dearest=DEAREST, checkpoint=stop)
    assert context.tokens == []
    again = PaddedFindings.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again == found
    probe_padded(context, TEXT, again, dearest=DEAREST)
    assert again.choice(DEAREST) == 6


@pytest.mark.parametrize(
    "change",
    [
        {"costs": None},
        {"costs": {"1": 1.0}},
        {"costs": {"2": 0.0}},
        {"costs": {"2": -1.0}},
        {"costs": {"2": float("nan")}},
        {"differences": {"1": 0.0}},
        {"differences": {"2": "x"}},
        {"more": 1},
    ],
)
def test_damaged_findings_are_none(change: dict[str, Any]) -> None:
    """They are measured again."""
    whole = PaddedFindings({2: 1.5}, {2: 0.0}).to_dict()
    assert PaddedFindings.from_dict(whole) is not None
    assert PaddedFindings.from_dict({**whole, **change}) is None
    assert PaddedFindings.from_dict(None) is None
