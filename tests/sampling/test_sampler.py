"""Laws of the way from a row of logits to a token: truncation, noise, and the distribution that comes out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from localspec.params import MAX_SEED, SamplingParams
from localspec.sampling import Row, Sampler, gumbel, gumbel_max, truncate

Kept = list[tuple[int, float]]

#: A coarse grid, so that ties are common.
grid = st.integers(-12, 12).map(lambda n: n / 2)
logit = grid | st.floats(-30, 30, width=32) | st.just(-math.inf)
rows = st.lists(logit, min_size=1, max_size=200).filter(lambda row: max(row) > -math.inf)
probability = st.sampled_from([0.0, 0.05, 0.5, 0.95, 1.0]) | st.floats(0, 1)


def chain(row: Sequence[float], params: SamplingParams) -> Kept:
    """llama.cpp's top-k → top-p → min-p, as slowly and literally as it can be written."""
    kept = sorted(enumerate(float(x) for x in row), key=lambda pair: (-pair[1], pair[0]))
    if params.top_k > 0:
        kept = kept[: params.top_k]
    if params.top_p < 1.0:
        weights = [math.exp(value - kept[0][1]) for _, value in kept]
        mass = 0.0
        for i, weight in enumerate(weights):
            mass += weight / sum(weights)
            if mass >= params.top_p:
                kept = kept[: i + 1]
                break
    if params.min_p > 0.0:
        floor = kept[0][1] + math.log(params.min_p)
        kept = [pair for pair in kept if pair[1] >= floor] or kept[:1]
    return kept


def on_an_edge(row: Sequence[float], params: SamplingParams) -> bool:
    """True if rounding decides which tokens are left: a sum or a logit is within float precision of its threshold."""
    kept = sorted((float(x) for x in row), reverse=True)
    if params.top_k > 0:
        kept = kept[: params.top_k]
    mass = np.cumsum(np.exp(np.array(kept) - kept[0]))
    near_p = params.top_p < 1.0 and bool((abs(mass / mass[-1] - params.top_p) < 1e-5).any())
    floor = kept[0] + math.log(params.min_p) if params.min_p > 0 else -math.inf
    return near_p or any(abs(value - floor) < 1e-4 for value in kept if value > -math.inf)


def ids_of(row: Sequence[float] | Row, params: SamplingParams) -> list[int]:
    ids, logits, _ = truncate(np.asarray(row, np.float32), params)
    assert [float(x) for x in logits] == [float(np.float32(row[i])) for i in ids]
    return [int(i) for i in ids]


@given(rows, st.integers(0, 210), probability, probability)
@settings(max_examples=400)
def test_truncation_is_llama_cpp_s_chain(row: list[float], k: int, p: float, m: float) -> None:
    """The same tokens in the same order as the literal chain, ties by id."""
    params = SamplingParams(1.0, k, p, m, 0)
    assume(k or p < 1 or m > 0)
    assume(not on_an_edge(row, params))
    found, expected = ids_of(row, params), [i for i, _ in chain(row, params)]
    # llama.cpp keeps impossible tokens where top-k counts them
    assert found == [i for i in expected if row[i] > -math.inf]


def sorted_chain(row: Row, params: SamplingParams) -> list[int]:
    """The same chain over a sorted array, for rows too long for lists."""
    order = np.argsort(-row, kind="stable")[: params.top_k or None]
    values = row[order].astype(np.float64)
    mass = np.cumsum(np.exp(values - values[0]))
    count = int(np.searchsorted(mass / mass[-1], params.top_p)) + 1 if params.top_p < 1 else len(order)
    floor = values[0] + math.log(params.min_p) if params.min_p else -math.inf
    return [int(i) for i, value in zip(order[:count], values[:count], strict=True) if value >= floor]


@pytest.mark.parametrize("n_vocab", [4097, 32_000, 151_936])
@pytest.mark.parametrize("params", [(40, 0.95, 0.05), (1, 1.0, 0.0), (0, 0.7, 0.0), (0, 1.0, 0.05), (3000, 0.8, 0.0)])
@pytest.mark.parametrize("tied", [False, True])
def test_truncation_of_a_large_vocabulary(n_vocab: int, params: tuple[int, float, float], tied: bool) -> None:
    """Looking at blocks of the row first changes nothing, with many ties or none."""
    row = np.random.default_rng(n_vocab).normal(0, 3, n_vocab).astype(np.float32)
    row[::7] = -np.inf
    row = np.round(row) if tied else row
    settings_ = SamplingParams(1.0, *params, seed=0)
    found, expected = ids_of(row, settings_), sorted_chain(row, settings_)
    shorter = min(len(found), len(expected))
    assert found[:shorter] == expected[:shorter]
    # the nucleus of a row this long ends within a few tokens, by rounding
    assert abs(len(found) - len(expected)) <= (0.001 * len(expected) if params[1] < 1 and not params[0] else 0)


LITERAL: list[tuple[list[float], tuple[int, float, float], list[int]]] = [
    ([1, 1, 1, 1], (2, 1.0, 0.0), [0, 1]),
    ([1, 1, 1, 1], (0, 0.6, 0.0), [0, 1, 2]),
    ([0, 5, 5, 0], (3, 1.0, 0.0), [1, 2, 0]),
    ([0, 5, 4, 0], (0, 0.0, 0.0), [1]),
    ([0, 5, 4, 0], (0, 1.0, 1.0), [1]),
    ([0, 5, 5, 0], (0, 1.0, 1.0), [1, 2]),
    ([-math.inf, 3, -math.inf], (0, 0.99, 0.0), [1]),
    ([-math.inf, 3, -math.inf, 2], (3, 1.0, 0.0), [1, 3]),
    ([7], (40, 0.95, 0.05), [0]),
    ([7], (0, 1.0, 0.0), [0]),
    ([3, 9], (1, 0.95, 0.05), [1]),
    # tokens far below the maximum are in a nucleus that holds all but 1e-14 of the mass
    ([0, -30, -31, -90], (0, 1 - 1e-14, 0.0), [0, 1, 2]),
    # top-p is of what top-k left: .73 of {5, 4} is less than .75 of it, but more than .7 of the whole row
    ([5, 4, 3.9, 3.8], (2, 0.73, 0.0), [0]),
    ([5, 4, 3.9, 3.8], (0, 0.73, 0.0), [0, 1, 2]),
]


@pytest.mark.parametrize(("row", "params", "expected"), LITERAL)
def test_literal_truncations(row: list[float], params: tuple[int, float, float], expected: list[int]) -> None:
    """Ties, impossible tokens, one survivor, and what each threshold is relative to."""
    assert ids_of(row, SamplingParams(1.0, *params, seed=0)) == expected


@given(rows, st.integers(0, 50), probability, probability, st.floats(0.01, 5), st.integers(0, MAX_SEED))
def test_pick_is_a_survivor(row: list[float], k: int, p: float, m: float, t: float, seed: int) -> None:
    """No token that truncation drops, and no impossible one, is ever chosen."""
    params = SamplingParams(t, k, p, m, seed)
    assume(not on_an_edge(row, params))
    token = Sampler(params).choose(np.array(row, np.float32), 5)
    assert token in {i for i, _ in chain(row, params)}
    assert row[token] > -math.inf


@given(rows, st.integers(0, 10**6))
def test_greedy_is_the_first_largest(row: list[float], position: int) -> None:
    """Temperature 0 is argmax, ties by id, with any truncation."""
    for params in (SamplingParams(0.0), SamplingParams(0.0, 1, 0.0, 1.0, 3)):
        assert Sampler(params).choose(np.array(row, np.float32), position) == row.index(max(row))


@given(rows, st.integers(0, MAX_SEED), st.integers(0, 1000))
def test_no_temperature_left_is_greedy(row: list[float], seed: int, position: int) -> None:
    """In the limit of a falling temperature, sampling is argmax."""
    cold = SamplingParams(1e-9, 0, 1.0, 0.0, seed)
    assert row[Sampler(cold).choose(np.array(row, np.float32), position)] == max(row)


@pytest.mark.parametrize("temperature", [1e-30, 1e30])
def test_extreme_temperatures_work(temperature: float) -> None:
    """No warning and no failure far from 1."""
    row = np.linspace(-4, 4, 100, dtype=np.float32)
    for top_k in (0, 40):
        assert 0 <= Sampler(SamplingParams(temperature, top_k, 1.0, 0.0, 1)).choose(row, 0) < 100


@pytest.mark.parametrize(("temperature", "top_k"), [(1e38, 0), (1e-320, 40)])
def test_absurd_temperatures_work(temperature: float, top_k: int) -> None:
    """Every temperature that is accepted works; numpy's overflow warning must not reach a user."""
    row = np.linspace(-4, 4, 100, dtype=np.float32)
    assert 0 <= Sampler(SamplingParams(temperature, top_k, 1.0, 0.0, 1)).choose(row, 0) < 100


@given(rows, st.integers(0, MAX_SEED), st.floats(0.2, 3))
def test_leaving_out_unreachable_tokens_changes_nothing(row: list[float], seed: int, t: float) -> None:
    """Without truncation, picking among the reachable tokens is picking among all."""
    sampler, array = Sampler(SamplingParams(t, 0, 1.0, 0.0, seed)), np.array(row, np.float32)
    ids = np.arange(len(row))
    for position in range(4):
        noise = gumbel(seed, position, ids)
        assert sampler.choose(array, position) == int((array.astype(np.float64) / t + noise).argmax())


@pytest.mark.parametrize("near", [0.0, 0.5, 2.0, 8.0])
@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_how_near_is_near_changes_nothing(near: float, scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The split into tokens that are compared first and later does not change the result."""
    monkeypatch.setattr(gumbel_max, "_NEAR", near)
    row = np.random.default_rng(3).normal(0, scale, 3000).astype(np.float32)
    row[::5] = -np.inf
    sampler, ids = Sampler(SamplingParams(0.8, 0, 1.0, 0.0, 6)), np.arange(3000)
    for position in range(60):
        noise = gumbel(6, position, ids)
        assert sampler.choose(row, position) == int((row.astype(np.float64) / 0.8 + noise).argmax())


@given(st.integers(0, MAX_SEED), st.integers(0, 2**31), st.lists(st.integers(0, 300_000), min_size=1, max_size=50))
def test_noise_is_a_function_of_seed_position_and_id(seed: int, position: int, ids: list[int]) -> None:
    """Other ids in the same call, and their order, do not change it."""
    together = gumbel(seed, position, np.array(ids))
    alone = [float(gumbel(seed, position, np.array([i]))[0]) for i in ids]
    assert together.tolist() == alone


@given(st.integers(0, MAX_SEED), st.integers(0, 2**31))
def test_noise_changes_with_each_of_them(seed: int, position: int) -> None:
    """Another seed, another position, another id: other noise."""
    ids = np.arange(64)
    noise = gumbel(seed, position, ids)
    assert len(set(noise.tolist())) == 64
    assert not set(noise.tolist()) & set(gumbel(seed, position + 1, ids).tolist())
    assert not set(noise.tolist()) & set(gumbel((seed + 1) & MAX_SEED, position, ids).tolist())


NOISES: dict[str, Callable[[], NDArray[np.float64]]] = {
    "over ids": lambda: gumbel(1, 0, np.arange(200_000)),
    "over positions": lambda: np.array([gumbel(1, at, np.array([7]))[0] for at in range(20_000)]),
    "over seeds": lambda: np.array([gumbel(seed, 0, np.array([7]))[0] for seed in range(20_000)]),
}


@pytest.mark.parametrize("over", NOISES)
def test_noise_is_gumbel(over: str) -> None:
    """Mean, variance and uniformity of exp(−exp(−g)), along each of the three axes."""
    noise = NOISES[over]()
    assert noise.mean() == pytest.approx(0.57721566, abs=5 * 1.2825 / math.sqrt(len(noise)))
    assert noise.var() == pytest.approx(math.pi**2 / 6, rel=10 / math.sqrt(len(noise)))
    counts, _ = np.histogram(np.exp(-np.exp(-noise)), bins=64, range=(0, 1))
    assert chi_square(counts, np.full(64, 1 / 64)) < chi_limit(63)


@pytest.mark.parametrize("over", NOISES)
def test_neighbouring_noise_is_independent(over: str) -> None:
    """No correlation between one counter and the next few."""
    uniform = np.exp(-np.exp(-NOISES[over]())) - 0.5
    for lag in (1, 2, 64):
        correlation = 12 * float((uniform[:-lag] * uniform[lag:]).mean())
        assert abs(correlation) < 5 / math.sqrt(len(uniform) - lag)


def splitmix_noise(seed: int, position: int, token: int) -> float:
    """The noise in whole numbers, written from the paper: SplitMix64 over seed, position and id in turn."""

    def mix(x: int) -> int:
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        return x ^ (x >> 31)

    golden = 0x9E3779B97F4A7C15
    key = mix((mix((seed + golden) % 2**64) ^ (position * golden % 2**64)) + golden & 2**64 - 1)
    bits = mix((token * golden + key) % 2**64) >> 12
    return -math.log(-math.log((bits + 0.5) / 2**52))


@given(st.integers(0, MAX_SEED), st.integers(0, 2**31), st.integers(0, 300_000))
def test_noise_is_splitmix_s(seed: int, position: int, token: int) -> None:
    """The same in every version: a seed gives its text again next year."""
    found = float(gumbel(seed, position, np.array([token]))[0])
    assert found == pytest.approx(splitmix_noise(seed, position, token), rel=1e-9)


def test_noise_of_some_counters() -> None:
    """Literal values, so that code and test cannot change together."""
    noise = [
        float(gumbel(*counters, np.array([token]))[0])
        for *counters, token in ((0, 0, 0), (7, 3, 99), (2**64 - 1, 9, 5))
    ]
    assert noise == pytest.approx([1.053059059283411, -1.1456602825043982, 1.7811240459404298], rel=1e-9)


def _inverse_mix(x: int) -> int:
    """SplitMix64's finaliser backwards."""
    mask = 2**64 - 1
    x ^= (x >> 31) ^ (x >> 62)
    x = x * pow(0x94D049BB133111EB, -1, 2**64) & mask
    x ^= (x >> 27) ^ (x >> 54)
    x = x * pow(0xBF58476D1CE4E5B9, -1, 2**64) & mask
    return x ^ (x >> 30) ^ (x >> 60)


def _seed_whose_first_bits_are(bits: int) -> int:
    """The seed for which token 0 at position 0 draws the 64 bits ``bits``."""
    key = _inverse_mix(bits)
    for _ in range(2):
        key = (_inverse_mix(key) - 0x9E3779B97F4A7C15) % 2**64
    return key


def test_largest_noise_is_finite() -> None:
    """Even where all bits are ones, u is below 1."""
    seed = _seed_whose_first_bits_are(2**64 - 1)
    assert math.isfinite(gumbel(seed, 0, np.array([0]))[0])


def test_smallest_noise_is_finite() -> None:
    """Even where all bits are zeros, u is above 0."""
    noise = float(gumbel(_seed_whose_first_bits_are(0), 0, np.array([0]))[0])
    assert noise == pytest.approx(-math.log(53 * math.log(2)))


# The distribution of what is picked.

POSITIONS = 20_000
LOGITS = np.array([2.0, 1.5, 1.5, 1.0, 0.5, 0.0, 0.0, -0.5, -1.0, -1.0, -1.5, -2.0], np.float32)
Pick = Callable[[SamplingParams, int], int]


def chi_square(counts: NDArray[Any], expected: NDArray[np.float64]) -> float:
    hoped = expected * counts.sum()
    return float(((counts - hoped) ** 2 / hoped).sum())


def chi_limit(freedom: int, z: float = 4.5) -> float:
    """The chi-square value that is exceeded with a probability of about 3e-6 (Wilson and Hilferty 1931)."""
    return freedom * (1 - 2 / (9 * freedom) + z * math.sqrt(2 / (9 * freedom))) ** 3


def follows_softmax(pick: Pick, params: SamplingParams) -> bool:
    """True if the choices of ``pick`` over many positions have the distribution of ``params``."""
    kept = chain([float(x) for x in LOGITS], params)
    ids = [i for i, _ in kept]
    weights = np.exp(np.array([value for _, value in kept]) / params.temperature)
    counts = np.bincount([pick(params, at) for at in range(POSITIONS)], minlength=len(LOGITS))
    if counts.sum() != counts[ids].sum():
        return False
    return chi_square(counts[ids], weights / weights.sum()) < chi_limit(len(ids) - 1)


def right(params: SamplingParams) -> Pick:
    sampler = Sampler(params)
    return lambda _, at: sampler.choose(LOGITS, at)


def uniform_noise(params: SamplingParams, at: int) -> int:
    return int((LOGITS / params.temperature + np.exp(-np.exp(-gumbel(params.seed or 0, at, np.arange(12))))).argmax())


def forgets_temperature(params: SamplingParams, at: int) -> int:
    return int((LOGITS + gumbel(params.seed or 0, at, np.arange(12))).argmax())


def forgets_ids(params: SamplingParams, at: int) -> int:
    return int((LOGITS / params.temperature + gumbel(params.seed or 0, at, np.zeros(12, np.int64))).argmax())


def forgets_top_p(params: SamplingParams, at: int) -> int:
    return int((LOGITS / params.temperature + gumbel(params.seed or 0, at, np.arange(12))).argmax())


OPEN = SamplingParams(0.7, 0, 1.0, 0.0, 11)
NUCLEUS = SamplingParams(0.7, 0, 0.8, 0.0, 12)


TWO = SamplingParams(1.0, 2, 1.0, 0.0, 14)


@pytest.mark.parametrize("params", [OPEN, NUCLEUS, TWO, SamplingParams(1.4, 6, 0.9, 0.1, 13)])
def test_picks_follow_softmax(params: SamplingParams) -> None:
    """Over 20,000 positions the tokens have the softmax distribution of what truncation leaves."""
    assert follows_softmax(right(params), params)


@pytest.mark.parametrize("params", [OPEN, NUCLEUS])
@pytest.mark.parametrize("wrong", [uniform_noise, forgets_temperature, forgets_ids])
def test_wrong_rule_does_not_follow_softmax(wrong: Pick, params: SamplingParams) -> None:
    """Rules that are nearly right fail the test above."""
    assert not follows_softmax(wrong, params)


def test_rule_without_truncation_does_not_follow_the_nucleus() -> None:
    """Ignoring top-p shows as well."""
    assert follows_softmax(forgets_top_p, OPEN)
    assert not follows_softmax(forgets_top_p, NUCLEUS)


def test_position_alone_decides_between_equal_rows() -> None:
    """A sampler has no memory: any order of positions gives the same tokens."""
    row = np.random.default_rng(0).normal(0, 1, 500).astype(np.float32)
    params = SamplingParams(1.0, seed=4)
    forwards = [Sampler(params).choose(row, at) for at in range(50)]
    sampler = Sampler(params)
    assert [sampler.choose(row, at) for at in reversed(range(50))] == forwards[::-1]
    assert len(set(forwards)) > 5


def test_shared_noise_agrees_more_often_than_chance() -> None:
    """Two similar rows with the same noise choose alike at least (1 − TV) / (1 + TV) of the time."""
    rng = np.random.default_rng(1)
    a = rng.normal(0, 1, 50).astype(np.float32)
    b = (a + rng.normal(0, 0.3, 50)).astype(np.float32)
    p, q = (np.exp(row) / np.exp(row).sum() for row in (a, b))
    distance = 0.5 * float(abs(p - q).sum())
    sampler = Sampler(SamplingParams(1.0, 0, 1.0, 0.0, 5))
    agreed = np.mean([sampler.choose(a, at) == sampler.choose(b, at) for at in range(5000)])
    assert agreed > (1 - distance) / (1 + distance) - 0.03
    assert agreed > float((p * q).sum()) + 0.2


@given(st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=63), st.data())
def test_confidence_is_the_softmax_probability(row: list[float], data: st.DataObject) -> None:
    """At temperature 1 and without truncation, whatever the sampler's settings."""
    token = data.draw(st.integers(0, len(row) - 1))
    exact = math.exp(row[token]) / sum(math.exp(x) for x in row)
    found = Sampler(SamplingParams(0.3, 2, 0.1, 0.5, 1)).confidence(np.array(row, np.float32), token)
    assert found == pytest.approx(exact, rel=1e-3, abs=1e-12)


@pytest.mark.parametrize("n_vocab", [64, 100, 2048, 32_000, 262_144])
@pytest.mark.parametrize("lead", [0.0, 6.0, 12.0, 18.0])
def test_confidence_of_a_long_row_is_never_too_low(n_vocab: int, lead: float) -> None:
    """At least the probability, and hardly more of a token that leads: no draft is cut that should go on."""
    row = np.random.default_rng(n_vocab).normal(0, 2, n_vocab).astype(np.float32)
    for token in (0, n_vocab // 2, n_vocab - 1):
        leading = row.copy()
        leading[token] += lead
        weights = np.exp(leading.astype(np.float64) - leading.max())
        exact = float(weights[token] / weights.sum())
        found = Sampler(SamplingParams(seed=1)).confidence(leading, token)
        assert exact * (1 - 1e-5) <= found <= 1
        assert found < 0.6 or exact > 0.15 or n_vocab < 2048


def test_confidence_leaves_the_row_as_it_was() -> None:
    """The row belongs to llama.cpp, and the loop still needs it."""
    row = np.random.default_rng(2).normal(0, 9, 300).astype(np.float32)
    before = row.copy()
    sampler = Sampler(SamplingParams(0.8, seed=1))
    sampler.confidence(row, 3)
    sampler.choose(row, 0)
    assert (row == before).all()
