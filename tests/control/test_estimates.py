"""Laws of learned probabilities: each is what its definition says, written as slowly and literally as it can be."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localspec.control.estimates import (
    BANDS,
    CAUTION,
    EDGE,
    MEMORY,
    PAIR_MEMORY,
    WEIGHT,
    AcceptanceForecast,
    Beta,
    Calibration,
    log_odds,
    probability,
)  # fmt: skip

shares = st.floats(0.0, 1.0)
#: (expected, right), None: a step without a verdict.
verdicts = st.lists(st.none() | st.tuples(shares, st.sampled_from([0.0, 1.0, 0.3])), max_size=30)


def odds(p: float) -> float:
    return math.log(p / (1 - p))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def literal(seen: list[tuple[float, float] | None], memory: float, caution: float, fades: bool) -> float:
    """The shift after the verdicts ``seen``: every number is forgotten at 1 / memory, the prior too where it fades."""
    keep, prior, old = 1 - 1 / memory, WEIGHT, list[tuple[float, float, float]]()
    shift = caution
    for verdict in seen:
        if verdict is None and sum(weight for weight, _, _ in old) < EDGE:
            continue
        old = [(keep * weight, expected, right) for weight, expected, right in old]
        if verdict is None:
            prior = keep * prior + (1 - keep) * WEIGHT
        else:
            old.append((1.0, *verdict))
            prior *= keep if fades else 1.0
        count = sum(weight for weight, _, _ in old)
        mean = sum(weight * expected for weight, expected, _ in old) / count
        right = sum(weight * right for weight, _, right in old)
        found = (prior * mean + right) / (prior + count)
        shift = log_odds(found) - log_odds(mean) + caution * prior / (prior + count)
    return shift


def told(beta: Beta, seen: list[tuple[float, float] | None]) -> Beta:
    for verdict in seen:
        if verdict is None:
            beta.fade()
        else:
            beta.learn(*verdict)
    return beta


@given(verdicts, st.floats(2.0, 100.0), st.floats(-2.0, 2.0), st.booleans(), shares)
def test_a_beta_is_its_definition(
    seen: list[tuple[float, float] | None], memory: float, caution: float, fades: bool, expected: float
) -> None:
    """A prior at what was expected, which counts as some verdicts, and verdicts that are forgotten."""
    beta = told(Beta(caution, memory, prior_fades=fades), seen)
    shift = literal(seen, memory, caution, fades)
    assert beta.shift == pytest.approx(shift, abs=1e-9)
    assert beta.corrected(expected) == pytest.approx(sigmoid(log_odds(expected) + shift), abs=1e-9)


@given(shares)
def test_log_odds_are_finite(p: float) -> None:
    """Probabilities keep a distance from 0 and 1; between them nothing is changed, and back it is the same."""
    kept = min(1 - EDGE, max(EDGE, p))
    assert log_odds(p) == pytest.approx(odds(kept), abs=1e-12)
    assert probability(log_odds(p)) == pytest.approx(kept, abs=1e-12)
    assert log_odds(1 - p) == pytest.approx(-log_odds(p), abs=1e-9)


def test_verdicts_are_forgotten_at_the_memory_s_rate() -> None:
    """After so many others a verdict counts 1/e, as an answer shows within a few dozen tokens."""
    for memory in (MEMORY, PAIR_MEMORY):
        beta = Beta(0.0, memory)
        for _ in range(1000):
            beta.learn(0.5, 1.0)
        assert beta.corrected(0.5) == pytest.approx((WEIGHT / 2 + memory) / (WEIGHT + memory), abs=1e-3)


def test_a_faded_beta_ends_where_it_began() -> None:
    """It stops once nothing is left to forget, and is as it was, up to little."""
    beta = told(Beta(-0.7, 17.0, prior_fades=True), [(0.9, 0.0)] * 20)
    assert beta.shift < -1.5
    told(beta, [None] * 1000)
    assert beta.shift == pytest.approx(-0.7, abs=0.01)
    fresh = Beta(-0.7)
    fresh.fade()
    assert fresh.shift == -0.7


@given(st.lists(st.tuples(shares | st.sampled_from(BANDS), st.booleans()), max_size=30), shares)
def test_a_calibration_is_a_beta_for_each_band(seen: list[tuple[float, bool]], asked: float) -> None:
    """An edge belongs to the band above; the other bands learn nothing."""
    calibration = Calibration()
    for confidence, right in seen:
        calibration.learn(confidence, right)

    def band(confidence: float) -> int:
        return sum(confidence >= edge for edge in BANDS)

    own = [(c, float(right)) for c, right in seen if band(c) == band(asked)]
    shift = literal([*own], MEMORY, CAUTION, False)
    assert calibration.probability(asked) == pytest.approx(sigmoid(log_odds(asked) + shift), abs=1e-9)


forecasts = st.lists(st.none() | st.tuples(st.booleans(), st.sampled_from([0.0, 1.0]), shares), max_size=20)


@given(st.lists(forecasts, min_size=1, max_size=3), shares)
def test_a_forecast_corrects_for_the_pair_and_for_the_answer(
    answers: list[list[tuple[bool, float, float] | None]], asked: float
) -> None:
    """First guesses and later ones apart. A new answer forgets the last one and keeps the pair; a step that the model
    did not draft fades the answer alone."""
    forecast = AcceptanceForecast()
    pair = [Beta(CAUTION, PAIR_MEMORY, prior_fades=True) for _ in range(2)]
    answer = [Beta(0.0, MEMORY, prior_fades=True) for _ in range(2)]
    for seen in answers:
        forecast.begin()
        answer = [Beta(0.0, MEMORY, prior_fades=True) for _ in range(2)]
        for verdict in seen:
            if verdict is None:
                forecast.fade()
                told(answer[0], [None]), told(answer[1], [None])
                continue
            later, right, confidence = verdict
            forecast.learn(later, right, confidence)
            answer[later].learn(pair[later].corrected(confidence), right)
            pair[later].learn(confidence, right)
    for later, found in enumerate([forecast.first(asked), forecast.rest(asked)]):
        expected = sigmoid(log_odds(asked) + pair[later].shift + answer[later].shift)
        assert found == pytest.approx(expected, abs=1e-9)
