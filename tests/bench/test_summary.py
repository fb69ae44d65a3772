"""Laws of summaries: what the ratio is, and how often its interval holds the true one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localspec.bench.paired import PairedRun
from localspec.bench.summary import Interval, comparable, ratio, summaries, summarise
from tests.helpers.runs import pair, run

RATES = st.lists(st.tuples(st.floats(1, 1000), st.floats(1, 1000), st.sampled_from("abc")), min_size=2, max_size=12)


def slower(one: PairedRun, factor: float) -> PairedRun:
    return replace(one, auto=replace(one.auto, generate_s=one.auto.generate_s * factor))


@given(RATES)
def test_the_interval_holds_the_ratio(rates: list[tuple[float, float, str]]) -> None:
    """For any runs."""
    made = [pair(plain, auto, prompt) for plain, auto, prompt in rates]
    found = ratio(made, rounds=500)
    assert found.low is not None
    assert found.high is not None
    assert 0 < found.low <= found.value <= found.high


@given(RATES, st.floats(0.1, 10))
def test_ratio_scales_with_time(rates: list[tuple[float, float, str]], factor: float) -> None:
    """Drafting that takes twice as long has half the ratio, and half the interval."""
    made = [pair(plain, auto, prompt) for plain, auto, prompt in rates]
    one, other = ratio(made, 200), ratio([slower(each, factor) for each in made], 200)
    assert one.low is not None
    assert other.low is not None
    assert (other.value, other.low) == pytest.approx((one.value / factor, one.low / factor), rel=1e-6)


def test_what_disturbs_both_runs_does_not_widen_the_interval() -> None:
    """Runs are paired for this reason."""
    made = [pair(rate, 1.5 * rate, f"p{i}") for i, rate in enumerate((10.0, 40.0, 25.0, 31.0))]
    found = ratio(made)
    assert (found.value, found.low, found.high) == pytest.approx((1.5, 1.5, 1.5))


def test_one_pair_has_no_interval() -> None:
    """Nothing is known of how it varies."""
    assert ratio([pair(10, 15)]) == Interval(1.5, None, None)


@pytest.mark.parametrize(("prompts", "repeats"), [(16, 3), (4, 2)])
def test_the_interval_holds_the_true_ratio_about_95_times_of_100(prompts: int, repeats: int) -> None:
    """Of 200 made studies with prompts that differ and noisy repeats: 90% at least, and not all."""
    random = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        made = []
        for i in range(prompts):
            own = 1.3 * np.exp(random.normal(-0.02, 0.2))  # E[1/own] = 1/1.3 · e^(0.02 + 0.02)
            for turn in range(repeats):
                noise = np.exp(random.normal(0, 0.05, 2))
                made.append(pair(20 * noise[0], 20 * own * noise[1], f"p{i}", turn=turn))
        found = ratio(made, rounds=400)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 1.3 * np.exp(-0.04) <= found.high
    assert 180 <= held < 200


def test_a_summary_is_of_the_drafting_runs() -> None:
    """Rates over all tokens, shares of the time, acceptance over all drafts."""
    made = [pair(10, 20), replace(pair(10, 40, "q"), auto=run(40, 100, digest="b"))]
    found = summarise("code", made)
    assert (found.prompts, found.pairs, found.same) == (2, 2, 1)
    assert (found.plain, found.auto) == pytest.approx((10.0, 200 / (5 + 2.5)))
    assert found.ratio.value == pytest.approx(found.auto / found.plain)
    assert (found.acceptance, found.mean_accepted) == (0.75, 1.5)
    assert (found.verify, found.draft, found.python) == pytest.approx((0.5, 0.25, 0.25))


def test_categories_and_then_all_of_them() -> None:
    """One category needs no sum; answers of one token are in none."""
    short = replace(pair(10, 10, "s", "qa"), plain=replace(run(10), generated=1))
    assert not comparable(short)
    made = [pair(10, 20), pair(10, 10, "q", "chat"), short]
    assert [one.category for one in summaries(made)] == ["code", "chat", "all"]
    assert [one.category for one in summaries(made[:1])] == ["code"]
    assert summaries([short]) == []


def test_no_draft_has_no_acceptance() -> None:
    """None, not a division by zero."""
    quiet = replace(run(10), proposed=0, accepted=0, drafted_steps=0)
    found = summarise("code", [replace(pair(10, 10), auto=quiet)])
    assert (found.acceptance, found.mean_accepted) == (None, None)
