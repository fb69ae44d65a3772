"""Laws of ``is_stable``: no disturbance within the noise changes a stable choice, and clear choices are stable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localspec.params import SamplingParams
from localspec.sampling import Row, Sampler, gumbel, truncate
from localspec.sampling.gumbel_max import top_scores
from localspec.sampling.truncation import temperature
from localspec.sampling.truncation_bounds import TruncationBounds

OPEN = SamplingParams(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=0)

#: One sampler at a time, the default chain, and everything together.
CHAINS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "open": {},
    "cold": {"temperature": 0.1},
    "top_k": {"top_k": 5},
    "top_k 1": {"top_k": 1},
    "top_p": {"top_p": 0.7},
    "top_p 0": {"top_p": 0.0},
    "min_p": {"min_p": 0.1},
    "min_p 1": {"min_p": 1.0},
    "typical_p": {"typical_p": 0.6},
    "top_n_sigma": {"top_n_sigma": 1.0},
    "xtc": {"xtc_probability": 0.7, "xtc_threshold": 0.1},
    "xtc of top_k": {"xtc_probability": 1.0, "xtc_threshold": 0.15, "top_k": 8, "temperature": 0.3},
    "xtc, greedy": {"xtc_probability": 1.0, "xtc_threshold": 0.1, "temperature": 0.0},
    "typical, greedy": {"typical_p": 0.5, "temperature": 0.0},
    "dynatemp": {"dynatemp_range": 0.5, "top_k": 10},
    "dynatemp to 0": {"dynatemp_range": 1.0, "dynatemp_exponent": 2.0},
    "default": {"top_k": 40, "top_p": 0.95, "min_p": 0.05, "temperature": 0.8},
    "two nuclei": {"typical_p": 0.9, "top_p": 0.8, "top_n_sigma": 1.5},
    "sigma, k, p": {"top_n_sigma": 1.5, "top_k": 10, "top_p": 0.8, "min_p": 0.05},
    "all": {
        "top_n_sigma": 2.0, "top_k": 20, "typical_p": 0.95, "top_p": 0.95, "min_p": 0.02,
        "xtc_probability": 0.5, "xtc_threshold": 0.1, "dynatemp_range": 0.3,
    },
}  # fmt: skip
#: Share of clear rows whose choice must be stable: less where a threshold lies among the likely tokens.
LEAST_STABLE = {"typical_p": 0.5, "typical, greedy": 0.5, "two nuclei": 0.2, "all": 0.2, "xtc": 0.5, "xtc, greedy": 0.5}


def params_of(chain: str, seed: int = 0) -> SamplingParams:
    return replace(OPEN, **CHAINS[chain], seed=seed)


def disturbed(row: Row, noise: float, rng: np.random.Generator, position: int, params: SamplingParams) -> Iterator[Row]:
    """``row`` with each difference moved by at most ``noise``: at random, to both ends, and against the winner."""
    n = len(row)
    winner = Sampler(params).choose(row, position)
    against = np.full(n, 1.0)
    against[winner] = 0.0
    directed = (np.argsort(np.argsort(row)) % 2).astype(np.float64)
    moves = [rng.random(n) for _ in range(3)] + [rng.integers(0, 2, n).astype(np.float64) for _ in range(6)]
    moves += [against, 1 - against, directed, 1 - directed]
    top = row >= np.sort(row)[-min(n, 1 + int(rng.integers(0, 8)))]
    moves += [top.astype(np.float64), 1.0 - top]
    for move in moves:
        shifted = row.astype(np.float64) + move * noise + rng.normal(0, 2)
        yield shifted.astype(np.float32)


grid = st.integers(-12, 12).map(lambda n: n / 2)
logit = grid | st.floats(-8, 8, width=32)
noises = st.sampled_from([1e-3, 0.01, 0.1, 0.5])


def stays(sampler: Sampler, row: Row, position: int, noise: float, rng: np.random.Generator) -> bool:
    """False if the choice is not stable; fails if it is and a disturbance within the noise changes it."""
    if not sampler.is_stable(row, position, noise):
        return False
    token = sampler.choose(row, position)
    for other in disturbed(row, noise * (1 - 1e-5), rng, position, sampler.params):
        assert sampler.choose(other, position) == token
    return True


@pytest.mark.parametrize("chain", CHAINS)
def test_stable_choice_stays(chain: str) -> None:
    """No disturbance within the noise changes a stable choice; some choices are stable and some are not."""
    stable: list[bool] = []

    @given(st.lists(logit, min_size=1, max_size=40), st.integers(0, 5), st.integers(0, 100), noises)
    @settings(max_examples=40)
    def law(row: list[float], seed: int, position: int, noise: float) -> None:
        sampler = Sampler(params_of(chain, seed))
        stable.append(stays(sampler, np.array(row, np.float32), position, noise, np.random.default_rng(seed)))

    law()
    assert set(stable) == {True, False}


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("shape", ["flat", "peaked", "few"])
def test_stable_choice_stays_on_rows_like_a_model_s(chain: str, shape: str) -> None:
    """The same over rows as models give them, at every margin."""
    rng, stable = np.random.default_rng(len(chain)), 0
    for position in range(40):
        row = rng.normal(0, 2.0, 300 if shape != "few" else 12).astype(np.float32)
        if shape == "peaked":
            row[rng.integers(0, 300, 4)] += rng.uniform(4, 9, 4).astype(np.float32)
        noise = float(rng.choice([0.01, 0.1, 0.3]))
        stable += stays(Sampler(params_of(chain, position)), row, position, noise, rng)
    assert stable >= 2


@pytest.mark.parametrize("chain", CHAINS)
def test_clear_choices_are_stable(chain: str) -> None:
    """With little noise most rows are stable."""
    rng, stable = np.random.default_rng(1), 0
    for position in range(100):
        row = rng.normal(0, 2.5, 200).astype(np.float32)
        row[rng.integers(0, 200, 3)] += np.array([9, 7, 4], np.float32)
        stable += Sampler(params_of(chain, position)).is_stable(row, position, 1e-3)
    assert stable >= 100 * LEAST_STABLE.get(chain, 0.9)


@pytest.mark.parametrize("chain", CHAINS)
def test_no_choice_is_stable_under_much_noise(chain: str) -> None:
    """If any token may become the likeliest, no choice is stable."""
    row = np.random.default_rng(2).normal(0, 1, 200).astype(np.float32)
    assert not any(Sampler(params_of(chain, 3)).is_stable(row, at, 50.0) for at in range(20))


@pytest.mark.parametrize("chain", ["greedy", "xtc, greedy", "typical, greedy", "top_k 1", "top_p 0", "min_p 1"])
def test_a_tie_of_the_largest_logits_is_not_stable(chain: str) -> None:
    """Of two equal largest logits, the chains that keep only the largest may choose either."""
    row = np.full(6, -40.0, np.float32)
    row[[1, 4]] = 3.0
    assert not Sampler(params_of(chain, 3)).is_stable(row, 0, 0.01)


@pytest.mark.parametrize("chain", CHAINS)
def test_the_only_possible_token_is_stable(chain: str) -> None:
    """Impossible tokens stay impossible at any noise."""
    row = np.full(50, -np.inf, np.float32)
    row[17] = 1.0
    assert Sampler(params_of(chain, 1)).is_stable(row, 0, 0.5)


def test_choices_from_a_large_vocabulary_are_stable_alike() -> None:
    """Few of the 151,936 tokens are read; the choice from a clear row is stable."""
    rng = np.random.default_rng(4)
    row = rng.normal(0, 2.5, 151_936).astype(np.float32)
    row[[5, 80_000]] += np.array([14, 12], np.float32)
    for chain in ("default", "top_p", "open", "top_n_sigma", "min_p"):
        params, stable = params_of(chain, 2), 0
        sampler = Sampler(params)
        for position in range(4):
            if sampler.is_stable(row, position, 0.01):
                stable += 1
                token = sampler.choose(row, position)
                others = islice(disturbed(row, 0.00999, rng, position, params), 0, None, 4)
                assert all(sampler.choose(other, position) == token for other in others)
        assert stable >= 2


def test_a_repeat_penalty_counts_as_more_noise() -> None:
    """It stretches differences: a margin that holds without it does not hold with it."""
    row, plain = np.array([0.0, 1.0, -3.0], np.float32), SamplingParams(temperature=0.0)
    assert Sampler(plain).is_stable(row, 0, 0.9)
    assert not Sampler(replace(plain, repeat_penalty=1.5)).is_stable(row, 0, 0.9)


@pytest.mark.parametrize("lead", [0.0, 0.5, 3.0])
def test_top_scores_hold_all_within_the_lead(lead: float) -> None:
    """Unlikely tokens with large noise are among them."""
    rng = np.random.default_rng(6)
    for position in range(40):
        row = rng.normal(0, 3, 3000).astype(np.float32)
        scores = row.astype(np.float64) / 0.5 + gumbel(1, position, np.arange(3000))
        ids, _ = top_scores(row, 0.5, 1, position, lead)
        assert set(np.flatnonzero(scores >= scores.max() - lead).tolist()) <= set(ids.tolist())


@pytest.mark.parametrize("chain", [name for name in CHAINS if params_of(name).truncates])
def test_certain_tokens_survive_and_only_possible_ones(chain: str) -> None:
    """The survivors of any disturbed row lie between the two bounds."""
    rng = np.random.default_rng(7)
    for position in range(12):
        row = rng.normal(0, 1.5, 120).astype(np.float32)
        noise, params = float(rng.choice([0.01, 0.1, 0.4])), params_of(chain)
        bounds = TruncationBounds(row, params, noise)
        bounds.apply_chain(params.excludes)
        stable, possible = set(bounds.ids[bounds.certain].tolist()), set(bounds.ids[bounds.possible].tolist())
        for other in disturbed(row, noise * (1 - 1e-5), rng, position, params):
            assert stable <= set(truncate(other, params, params.excludes).ids.tolist()) <= possible


@pytest.mark.parametrize("chain", [name for name in CHAINS if params_of(name).truncates])
@pytest.mark.parametrize("size", [30, 3000])
def test_without_noise_bounds_are_the_truncation(chain: str, size: int) -> None:
    """But for a token on the edge of a threshold, where rounding decides."""
    rng, params, equal = np.random.default_rng(9), params_of(chain), 0
    for _ in range(25):
        row = rng.normal(0, 2, size).astype(np.float32)
        bounds = bounds_of(row, params, 0.0)
        certain, possible = (set(bounds.ids[flags].tolist()) for flags in (bounds.certain, bounds.possible))
        assert certain <= set(truncate(row, params, params.excludes).ids.tolist()) <= possible
        equal += certain == possible
    assert equal >= 24


@pytest.mark.parametrize("chain", [name for name in CHAINS if params_of(name).dynatemp_range])
@pytest.mark.parametrize("noise", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("size", [60, 3000])
def test_temperatures_enclose_those_of_disturbed_rows(chain: str, noise: float, size: int) -> None:
    """Without noise they are the temperature; they never leave the range of the setting."""
    rng, params = np.random.default_rng(11), params_of(chain)
    low, high = max(0.0, params.temperature - params.dynatemp_range), params.temperature + params.dynatemp_range
    for position in range(15):
        row = rng.normal(0, 2, size).astype(np.float32)
        found = bounds_of(row, params, noise).temperatures()
        exact = temperature(truncate(row, params, params.excludes), params)
        assert low <= min(found) <= exact <= max(found) <= high
        assert noise or max(found) - min(found) < 1e-4
        for other in disturbed(row, noise * (1 - 1e-5), rng, position, params):
            moved = temperature(truncate(other, params, params.excludes), params)
            assert min(found) - 1e-5 <= moved <= max(found) + 1e-5


def bounds_of(row: Row, params: SamplingParams, noise: float) -> TruncationBounds:
    bounds = TruncationBounds(row, params, noise)
    bounds.apply_chain(params.excludes)
    return bounds


@pytest.mark.parametrize("chain", ["top_k", "min_p"])
def test_bounds_are_tight(chain: str) -> None:
    """A hair more noise removes a token that is not certain, and keeps one that is possible."""
    rng, params, undecided = np.random.default_rng(10), params_of(chain), 0
    for _ in range(60):
        row, noise = rng.normal(0, 1.5, 40).astype(np.float32), float(rng.choice([0.05, 0.3, 1.0]))
        bounds = TruncationBounds(row, params, noise)
        bounds.apply_chain(xtc_acts=False)
        certain, possible = set(bounds.ids[bounds.certain].tolist()), set(bounds.ids[bounds.possible].tolist())
        for token in range(len(row)):
            moved = np.zeros(len(row), np.float32)
            moved[token] = noise * 1.001 + 1e-4
            assert (token in certain) == (token in truncate(row - moved, params).ids)
            assert (token in possible) == (token in truncate(row + moved, params).ids)
        undecided += len(possible - certain)
    assert undecided > 60


def test_lead_of_the_winner_decides() -> None:
    """Of two tokens; at any temperature and position, up to a hair."""
    for position in range(20):
        for temperature_ in (0.3, 1.0, 2.5):
            params = replace(OPEN, temperature=temperature_)
            row = np.array([1.0, 0.5], np.float32)
            lead = abs(float(np.diff(row / temperature_ + gumbel(0, position, np.arange(2)))[0])) * temperature_
            assert Sampler(params).is_stable(row, position, lead - 1e-4)
            assert not Sampler(params).is_stable(row, position, lead + 1e-4)
            chained = replace(params, top_k=2, dynatemp_range=1e-6)
            assert Sampler(chained).is_stable(row, position, lead - 1e-3)
            assert not Sampler(chained).is_stable(row, position, lead + 1e-3)


@pytest.mark.parametrize(("row", "stable"), [([1.0, 0.0], False), ([1.0], True), ([0.0, 1.001], True)])
def test_greedy_lead_must_exceed_the_noise(row: list[float], stable: bool) -> None:
    """A lead equal to the noise may become a tie."""
    sampler = Sampler(SamplingParams(temperature=0.0))
    assert sampler.is_stable(np.array(row, np.float32), 0, 1.0) == stable
