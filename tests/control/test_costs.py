"""Laws of cost curves: between and beyond what was measured, as JSON, and following real passes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localspec.control.costs import WIDTHS, Costs, Curve, DraftCosts, LiveCurve
from localspec.errors import InputError
from localspec.gguf.header import read_header
from localspec.llama.context import LlamaContext
from localspec.llama.model import LlamaModel
from localspec.models.resolve import TINY_TARGET
from localspec.params import ContextParams
from localspec.probe.batch_invariance import TEXT
from localspec.probe.costs import curve_from_samples, measure_cell, were_disturbed

times = st.floats(1e-5, 10.0)
curves = st.dictionaries(st.integers(2, 64), times, max_size=12).flatmap(
    lambda rest: times.map(lambda first: Curve((1, *sorted(rest)), (first, *(rest[n] for n in sorted(rest)))))
)


@given(curves)
def test_measured_widths_cost_what_was_measured(curve: Curve) -> None:
    """Every other width costs a value between its neighbours."""
    for width, seconds in zip(curve.widths, curve.times, strict=True):
        assert curve.seconds(width) == pytest.approx(seconds)
    for n in range(1, curve.widths[-1]):
        around = [
            curve.seconds(max(w for w in curve.widths if w <= n)),
            curve.seconds(min(w for w in curve.widths if w > n)),
        ]
        assert min(around) * 0.999 <= curve.seconds(n) <= max(around) * 1.001


@given(curves, st.integers(1, 500))
def test_every_width_has_a_cost(curve: Curve, n: int) -> None:
    """Above zero, however the curve ends."""
    assert curve.seconds(n) > 0


def test_a_curve_that_ends_on_a_cheap_step_does_not_fall_on() -> None:
    """Four rows may cost less than three; thirty-two do not cost less than four."""
    curve = Curve((1, 2, 3, 4), (0.17, 0.31, 0.34, 0.25))
    assert curve.seconds(32) == pytest.approx(8 * 0.25)
    live = LiveCurve(curve, 32)
    assert all(live.seconds(n) >= live.seconds(4) for n in live.widths if n > 4)


@given(curves, st.integers(1, 64), st.integers(0, 100_000), st.floats(0.0, 0.01))
def test_every_row_looks_at_every_cached_token(curve: Curve, n: int, cached: int, cell: float) -> None:
    """The extra cost of a long context is proportional to both, before and after the curve is scaled."""
    long = replace(curve, cell=cell)
    assert long.seconds(n, cached) == pytest.approx(curve.seconds(n) + n * cached * cell)
    assert long.scaled(2.0).seconds(n, cached) == pytest.approx(2.0 * long.seconds(n, cached))
    assert LiveCurve(long, 64).seconds(n, cached) == pytest.approx(long.seconds(n, cached))


def test_a_long_context_is_not_taken_for_a_slow_machine() -> None:
    """Passes that take what their context makes them take leave the curve as it was: wide ones too."""
    curve = Curve((1, 4, 16), (0.020, 0.035, 0.095), cell=3e-6)
    live = LiveCurve(curve, 16)
    for cached in range(1000, 1200):
        live.observe(1, curve.seconds(1, cached), cached)
    assert live.seconds(16, 1200) == pytest.approx(curve.seconds(16, 1200))
    assert live.seconds(16) == pytest.approx(0.095)
    assert live.now().cell == pytest.approx(3e-6)


@given(curves, curves, times, st.floats(0.0, 0.01))
def test_costs_survive_json(verify: Curve, first: Curve, step: float, cell: float) -> None:
    """To the precision that is written."""
    costs = Costs(replace(verify, cell=cell), {"model": DraftCosts(first, step)}, 0.001)
    again = Costs.from_dict(json.loads(json.dumps(costs.to_dict())))
    assert again.verify.widths == verify.widths
    assert again.verify.times == pytest.approx(verify.times, rel=0.01, abs=1e-7)
    assert again.drafters["model"].step == pytest.approx(step, rel=0.01)
    assert again.python == 0.001
    assert again.verify.cell == pytest.approx(cell, abs=1e-10)


@pytest.mark.parametrize(
    "record",
    [
        None, [], {}, {"verify": {}}, {"verify": {"2": 1}}, {"verify": {"1": "x"}}, {"verify": {"1": -1}},
        {"verify": {"1": 1e12}}, {"verify": {"1": float("nan")}}, {"verify": {"1": 1}, "drafters": {"model": 3}},
        {"verify": {"1": 1}, "drafters": {"model": {"first": {}, "step": 1}}}, {"verify": {"1": 1}, "python": "fast"},
        {"verify": {"1": 1}, "cell": "dear"}, {"verify": {"1": 1}, "cell": -1}, {"verify": {"1": 1}, "cell": 1e6},
    ],
)  # fmt: skip
def test_what_is_no_curve_is_refused(record: Any) -> None:
    """With one sentence."""
    with pytest.raises(InputError):
        Costs.from_dict(record)


@given(curves, st.floats(0.3, 3.0))
def test_live_curve_follows_a_machine_that_changes(curve: Curve, factor: float) -> None:
    """Passes that are all so much slower or quicker: within a few dozen steps every width is known to be."""
    live = LiveCurve(curve, 64)
    for _ in range(60):
        live.observe(1, factor * curve.seconds(1))
    assert live.seconds(1) == pytest.approx(factor * curve.seconds(1), rel=0.05)
    wide = curve.widths[-1]
    if factor > 1:
        assert live.seconds(wide) >= curve.seconds(wide) * 0.999
    else:
        assert live.seconds(wide) <= curve.seconds(wide) * 1.001


@given(curves)
def test_one_outlier_moves_little(curve: Curve) -> None:
    """A pass that was interrupted for a second hardly changes the estimate of the next."""
    live = LiveCurve(curve, 64)
    live.observe(1, 1000 * curve.seconds(1))
    assert live.seconds(1) < 1.2 * curve.seconds(1)


def test_what_cached_tokens_cost_is_measured() -> None:
    """On the built-in target, more than 0 and less than a pass; 0 where the context is too small to measure it."""
    params = ContextParams(threads=1)
    model = LlamaModel(read_header(TINY_TARGET), params)
    tokens = model.vocabulary.tokenize(TEXT, add_special=False)[:80]
    curve = Curve((1, 4), (1e-7, 1e-7))
    for n_ctx, tells in ((256, False), (1024, True)):
        context = LlamaContext(model, params, n_ctx)
        cell = measure_cell(context, tokens, curve)
        assert (cell > 0.0) == tells
        assert cell * 608 < 1.0
        assert not context.tokens
        context.close()
    model.close()


def test_disturbed_passes_are_known_by_what_cannot_be() -> None:
    """A pass cannot take longer than two that are as wide together, or much longer than a wider one."""
    quiet = [(1, 1.0), (2, 1.6), (4, 2.0), (8, 3.5), (16, 6.0)]
    assert not were_disturbed(quiet)
    assert were_disturbed([(1, 9.0), *quiet[1:]])
    assert were_disturbed([*quiet[:2], (4, 9.0), *quiet[3:]])
    curve = curve_from_samples([(1, 9.0), *quiet[1:], (4, 7.0)])
    assert curve.seconds(1) <= 1.35 * 1.6
    assert curve.seconds(4) == 2.0


@given(curves)
def test_a_measured_width_costs_exactly_what_was_measured(curve: Curve) -> None:
    """No arithmetic moves it; between widths the time is linear, beyond them the time of a row stays."""
    assert all(curve.seconds(n) == seconds for n, seconds in zip(curve.widths[:-1], curve.times[:-1], strict=True))
    inside = range(1, curve.widths[-1] + 1)
    linear = np.interp(inside, curve.widths, curve.times)
    assert [curve.seconds(n) for n in inside] == pytest.approx(linear.tolist())
    for n in (curve.widths[-1], curve.widths[-1] + 1, 500):
        assert curve.seconds(n) == pytest.approx(curve.times[-1] * n / curve.widths[-1])


tenths = st.integers(1, 10**8)


@given(st.dictionaries(st.integers(2, 64), tenths, max_size=6), tenths, st.integers(0, 10**6), st.integers(0, 10**8))
def test_files_keep_tenths_of_a_microsecond(rest: dict[int, int], first: int, cell: int, python: int) -> None:
    """Exactly; finer digits are noise and are not written. A cell keeps hundredths of a nanosecond."""
    written = {1: first, **dict(sorted(rest.items()))}
    curve = Curve(tuple(written), tuple((n + 0.2) * 1e-7 for n in written.values()), (cell + 0.2) * 1e-11)
    record = Costs(curve, {"model": DraftCosts(curve, (first + 0.2) * 1e-7)}, (python + 0.2) * 1e-7).to_dict()
    expected = {str(n): tenths / 1e4 for n, tenths in written.items()}
    assert record == {
        "verify": expected,
        "cell": cell / 1e8,
        "drafters": {"model": {"first": expected, "step": first / 1e4}},
        "python": python / 1e4,
    }
    assert Costs.from_dict(json.loads(json.dumps(record))).to_dict() == record


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"verify": {"1": 3_600_000}}, "has a time of 3600.0 s; it must be above 0 and below an hour"),
        ({"verify": {"1": 0}}, "has a time of 0.0 s; it must be above 0"),
        ({"verify": {"1": 1, "2": 3_600_000}}, "below an hour"),
        ({"verify": {"1": 1}, "cell": 1000}, "costs 1.0 s a row; it must be at least 0 and below 1"),
        ({"verify": {"1": 1}, "cell": None}, "the cell of a cost curve is None; it must be milliseconds"),
        ({"verify": {"1": 1}, "python": 3_600_000}, "the python time of a cost curve is 3600000"),
        ({"verify": {"1": 1}, "python": -0.1}, "the python time of a cost curve is -0.1"),
        ({"verify": {"1": 1}, "python": None}, "the python time of a cost curve is None"),
        ({"verify": {"2": 1, "4": 1}}, r"has the widths \[2, 4\]; they must rise from 1"),
        ({"verify": {"1": 1, "01": 1}}, r"has the widths \[1, 1\]"),
        ({"verify": {"1": 1, "two": 1}}, "must map widths to milliseconds"),
        ({"verify": {"1": [1]}}, "must map widths to milliseconds"),
        ({"verify": [1, 2]}, r"a cost curve is \[1, 2\]; it must map"),
        ({"verify": {}}, "a cost curve is {}; it must map"),
        ({}, "run `localspec tune`"), ([], "run `localspec tune`"), ("verify", "run `localspec tune`"),
        ({"verify": {"1": 1}, "drafters": []}, "the drafters of a cost curve must be"),
        ({"verify": {"1": 1}, "drafters": {"model": {"first": {"1": 1}}}}, "the drafters of a cost curve must be"),
        ({"verify": {"1": 1}, "drafters": {"model": [1]}}, "the drafters of a cost curve must be"),
        ({"verify": {"1": 1}, "drafters": {"a": {"step": 1}, "b": 1}}, "the drafters of a cost curve must be"),
        ({"verify": {"1": 1}, "drafters": {"model": {"step": 0}}}, "has a time of 0.0 s"),
    ],
)  # fmt: skip
def test_refusals_name_the_value(record: Any, message: str) -> None:
    """At the edges too."""
    with pytest.raises(InputError, match=message):
        Costs.from_dict(record)


def test_values_just_inside_are_accepted() -> None:
    """Nearly an hour, no time in Python, no cost of the cache. A drafter without a curve costs its step."""
    costs = Costs.from_dict(
        {"verify": {"1": 3_599_999.0}, "cell": 999.9, "drafters": {"mtp": {"step": 2}}, "python": 0}
    )
    assert (costs.verify.times, costs.python) == ((3599.999,), 0.0)
    assert costs.verify.cell == pytest.approx(0.9999)
    assert costs.drafters["mtp"] == DraftCosts(Curve((1,), (0.002,)), 0.002)
    least = Costs.from_dict({"verify": {"1": 1}})
    assert (least.verify.cell, least.python, dict(least.drafters)) == (0.0, 0.0, {})
    assert Costs.from_dict({"verify": {"1": 1}, "python": 3_599_999}).python == 3599.999
    assert (Costs(least.verify).python, dict(Costs(least.verify).drafters), Curve((1,), (1.0,)).cell) == (0.0, {}, 0.0)
    with pytest.raises(InputError):
        Curve((), ())
    with pytest.raises(InputError):
        Curve((1, 2), (1.0,))
    with pytest.raises(InputError):
        Curve((1, 2, 2), (1.0, 1.0, 1.0))


@given(curves, st.integers(2, 64), st.integers(0, 4000))
def test_padded_passes_cost_the_same_up_to_their_width(curve: Curve, width: int, cached: int) -> None:
    """Whatever is in them, and behind any cache. The rest of the costs, and costs that are not padded, stay."""
    costs = Costs(replace(curve, cell=1e-6), {"mtp": DraftCosts(curve, 0.5)}, 0.25)
    padded = costs.padded(width)
    live = LiveCurve(padded.verify, width)
    for n in (1, (width + 1) // 2, width):
        for same in (padded.verify, padded.verify.scaled(1.0), live, live.now()):
            assert same.seconds(n, cached) == pytest.approx(costs.verify.seconds(width, cached))
    assert (padded.drafters, padded.python) == (costs.drafters, 0.25)
    assert costs.padded(1) is costs


@given(curves, st.integers(1, 64))
def test_a_live_curve_begins_as_it_was_measured(curve: Curve, widest: int) -> None:
    """At every width, also beyond those that are used; it uses what was measured and what `tune` would measure."""
    live = LiveCurve(curve, widest)
    assert list(live.widths) == sorted({n for n in (*curve.widths, *WIDTHS) if n <= widest})
    for n in range(1, 200):
        assert live.seconds(n) == pytest.approx(curve.seconds(n))
    now = live.now()
    assert (now.widths, now.times) == (curve.widths, pytest.approx(curve.times))


@given(curves, st.integers(1, 64), st.floats(0.01, 100.0), st.integers(0, 1000))
def test_what_a_pass_moves(curve: Curve, at: int, factor: float, cached: int) -> None:
    """All widths by a tenth of its deviation, its own by another tenth; a width that was not measured wholly, once."""
    curve = replace(curve, cell=1e-6)
    live, off = LiveCurve(curve, 64), max(-0.4, min(0.4, math.log(factor)))
    guessed = at in WIDTHS and at not in curve.widths
    live.observe(at, factor * curve.seconds(at, cached), cached)
    for n in range(1, 130):
        own = (1.0 if guessed else 0.1) if n == at else 0.0
        assert live.seconds(n) == pytest.approx(curve.seconds(n) * math.exp((0.1 + own) * off))
    before = live.seconds(at)
    live.observe(at, factor * before)
    assert live.seconds(at) == pytest.approx(before * math.exp(0.2 * off))
    cell = live.now().cell
    assert cell == pytest.approx(1e-6 * math.exp(0.2 * off))


def test_what_is_no_pass_moves_nothing() -> None:
    """One of no time, and one that is wider than any that is used."""
    curve = Curve((1, 4), (1.0, 2.0))
    live = LiveCurve(curve, 8)
    for n, seconds in ((1, 0.0), (1, -1.0), (9, 1.0), (100, 1.0)):
        live.observe(n, seconds)
    assert [live.seconds(n) for n in range(1, 20)] == [curve.seconds(n) for n in range(1, 20)]
    live.observe(8, 5.0)
    assert live.seconds(8) > 4.0
