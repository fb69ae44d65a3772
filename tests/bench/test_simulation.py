"""Laws of curves and of what is replayed at them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localspec.bench.curves import NamedCosts, examples, match_costs, read_curve
from localspec.bench.simulation import compare_categories, compare_traces, simulation_lines
from localspec.control.costs import WIDTHS, Costs, Curve, DraftCosts, LiveCurve
from localspec.errors import InputError
from tests.helpers.runs import trace

FLAT = Costs(Curve((1, 64), (0.02, 0.021)), {"model": DraftCosts(Curve((1, 64), (0.002, 0.004)), 0.002)})
STEEP = Costs(Curve((1, 2, 64), (0.02, 0.04, 1.28)), {"model": DraftCosts(Curve((1, 2), (0.01, 0.02)), 0.01)})


@pytest.mark.parametrize("name", ["cpu", "cpu-avx512", "gpu"])
def test_examples_are_read(name: str) -> None:
    """By name, from anywhere; a GPU's is nearly flat to eight rows, two cores' is not."""
    assert name in examples()
    curve = read_curve(name)
    assert (curve.costs.verify.seconds(8) / curve.costs.verify.seconds(1) < 1.25) == (name == "gpu")
    assert "model" in curve.costs.drafters


def test_a_saved_curve_is_read_again(tmp_path: Path) -> None:
    """With its name, its machine and its widest pass."""
    curve = NamedCosts("mine", "this one", FLAT, 32)
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(curve.to_dict()))
    assert read_curve(str(file)) == curve


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "cannot be read"),
        ("[]", "not a JSON object"),
        ("{}", '"verify"'),
        ('{"verify": {"2": 5}}', "rise from 1"),
        ('{"verify": {"1": -5}}', "above 0"),
        ('{"verify": {"1": 5}, "widest": 0}', "from 1 to 64"),
        ('{"verify": {"1": 5}, "widest": true}', "from 1 to 64"),
        ('{"verify": {"1": 5}, "drafters": {"model": {}}}', "drafters"),
    ],
)
def test_a_bad_curve_is_one_sentence(tmp_path: Path, content: str, says: str) -> None:
    """With the file's name."""
    file = tmp_path / "bad.json"
    file.write_text(content)
    with pytest.raises(InputError, match=r"bad\.json") as told:
        read_curve(str(file))
    assert says in str(told.value)
    with pytest.raises(InputError, match="one of cpu, cpu-avx512, gpu"):
        read_curve("absent")


def test_a_drafter_without_costs_is_scaled_or_left_out() -> None:
    """Its cost is scaled by the single-token pass if it was measured here; a note names it."""
    curve = NamedCosts("other", "m", Costs(Curve((1, 8), (0.06, 0.07))))
    fit = match_costs(curve, ["model"], FLAT)
    assert fit.sources == ("ngram", "model")
    assert fit.costs.drafters["model"].step == pytest.approx(3 * 0.002)
    assert fit.costs.drafters["model"].first.seconds(64) == pytest.approx(3 * 0.004)
    assert "times 3, the ratio" in fit.notices[0]
    left = match_costs(curve, ["model"], None)
    assert (left.sources, len(left.notices)) == (("ngram",), 1)
    own = match_costs(NamedCosts("flat", "m", FLAT), ["model"], STEEP)
    assert (own.costs.drafters, own.notices) == (FLAT.drafters, ())


def test_a_curve_of_few_points_has_the_widths_between() -> None:
    """On the lines between them, and no wider."""
    dense = LiveCurve(match_costs(NamedCosts("flat", "m", FLAT), [], None).costs.verify, 64)
    assert set(WIDTHS) == set(dense.widths)
    assert all(dense.seconds(n) == pytest.approx(FLAT.verify.seconds(n)) for n in range(1, 65))
    steep = LiveCurve(match_costs(NamedCosts("steep", "m", STEEP), [], None).costs.verify, 5)
    assert list(steep.widths) == [1, 2, 3, 4, 5]


def test_good_guesses_pay_where_passes_are_flat() -> None:
    """Close to what the best fixed depth brings; the plain time is the target's alone."""
    costs = match_costs(NamedCosts("flat", "m", FLAT), ["model"], None).costs
    (found,) = compare_traces([trace(160)], costs, ("ngram", "model"), 64)
    assert found.plain_s == pytest.approx(160 * 0.02)
    assert found.ratio > 2.5
    assert found.share > 0.75
    assert found.best.startswith("model")


@pytest.mark.parametrize(("right", "costs"), [(True, STEEP), (False, STEEP), (False, FLAT)])
def test_what_does_not_pay_costs_little(right: bool, costs: Costs) -> None:
    """On steep curves, or with wrong guesses only, plain decoding is best and nearly reached."""
    (found,) = compare_traces([trace(160, right=right)], costs, ("ngram", "model"), 64)
    assert found.best == "none"
    assert 0.95 < found.ratio <= 1.0
    assert found.share == pytest.approx(found.ratio)


def test_categories_are_sums_of_time() -> None:
    """Rates over all tokens; an empty trace is left out."""
    traces = [trace(80), trace(40, right=False, category="chat"), trace(0), trace(40, category="chat")]
    replayed = list(compare_traces(traces, FLAT, ("model",), 16))
    found = compare_categories(replayed)
    assert [(one.category, one.traces) for one in found] == [("code", 1), ("chat", 2), ("all", 3)]
    assert found[-1].plain == pytest.approx(50.0)
    assert found[-1].auto == pytest.approx(160 / sum(one.auto_s for one in replayed))
    assert found[-1].share == pytest.approx(sum(one.best_s for one in replayed) / sum(one.auto_s for one in replayed))
    for width in (40, 80):
        assert max(map(len, simulation_lines(found, width))) <= width
