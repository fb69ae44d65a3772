"""Laws of what makes sampling quick: first cuts leave little and lose nothing, sizes are those of the whole chain."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from localspec.params import SamplingParams
from localspec.sampling import Sampler, truncate
from localspec.sampling.noise import bits, bits_threshold, gumbel, xtc_draw
from localspec.sampling.rows import LOWEST_FINITE, largest, nucleus_candidates, standard_deviation
from localspec.sampling.truncation import Candidates, _first_cut, sigma_floor, temperature, xtc_count

OPEN = SamplingParams(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=0)
logit = st.integers(-12, 12).map(lambda n: n / 2) | st.floats(-30, 30, width=32) | st.just(-math.inf)
rows = st.lists(logit, min_size=1, max_size=300).filter(lambda row: max(row) > -math.inf)


def row_of(n: int, seed: int = 3) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(0, 3, n).astype(np.float32)


@given(rows, st.integers(1, 320))
def test_the_largest_are_among_few(row: list[float], k: int) -> None:
    """In id order. All of them in a short row."""
    array = np.array(row, np.float32)
    found = largest(array, k)
    assert found.tolist() == sorted(found.tolist())
    floor = sorted(row, reverse=True)[min(k, len(row)) - 1]
    assert {i for i, x in enumerate(array) if x >= np.float32(floor)} <= set(found.tolist())


@pytest.mark.parametrize("n_vocab", [64 * 50, 64 * 50 + 1, 64 * 50 + 63, 32_000, 151_936])
@pytest.mark.parametrize("k", [1, 5, 40])
def test_the_largest_of_a_long_row_are_found_in_its_blocks(n_vocab: int, k: int) -> None:
    """All from the k-th largest maximum of a block up, wherever they are; the last tokens too."""
    row = row_of(n_vocab)
    row[[n_vocab - 1, 0]] = [20.0, 21.0]
    columns = n_vocab // 64
    maxima = [max(float(row[at]) for at in range(column, 64 * columns, columns)) for column in range(columns)]
    floor = sorted(maxima, reverse=True)[k - 1]
    assert largest(row, k).tolist() == [i for i, x in enumerate(row) if x >= floor]


@given(rows, st.floats(0.0, 1.0), st.booleans())
def test_a_nucleus_is_among_its_candidates(row: list[float], top_p: float, cut: bool) -> None:
    """Which are all down to some logit, and hold more than its mass; and the mass is that above the floor."""
    array, floor = np.array(row, np.float32), max(row) - 5 if cut else LOWEST_FINITE
    ids, total = nucleus_candidates(array, top_p, floor)
    above = array[array >= floor].astype(np.float64)
    assert total == pytest.approx(math.log(np.exp(above - above.max()).sum()) + above.max(), abs=1e-4)
    assert ids.tolist() == np.flatnonzero(array >= max(floor, float(array[ids].min()))).tolist()
    mass = float(np.exp(array[ids].astype(np.float64) - total).sum())
    assert mass > top_p or len(ids) == len(above)
    if cut:
        assert len(ids) == len(above)


@pytest.mark.parametrize(("top_p", "distance"), [(0.5, 6.0), (0.9999, 12.0), (0.9999999, 24.0), (1.0, math.inf)])
def test_a_nucleus_is_looked_for_near_the_maximum_first(top_p: float, distance: float) -> None:
    """Six, twelve and twenty-four below it hold more and more of the mass."""
    row = np.array([0.0, -0.1, -5.9, -6.1, -7.0, -11.9, -12.1, -23.9, -24.1, -40.0], np.float32)
    ids, _ = nucleus_candidates(row, top_p, LOWEST_FINITE)
    assert ids.tolist() == np.flatnonzero(row >= -distance).tolist()


def test_a_nucleus_of_all_mass_has_all_tokens() -> None:
    """Also those whose probability is lost in rounding."""
    assert nucleus_candidates(np.array([0.0, -200.0], np.float32), 1.0, LOWEST_FINITE)[0].tolist() == [0, 1]


def test_a_first_cut_is_no_larger_than_it_has_to_be() -> None:
    """Exact for min-p and for sigma, and by the nearer of both; all where typical-p has to see all."""
    row = row_of(2000)
    row[[3, 5]] = [15.0, -np.inf]
    for change, floor in (
        (OPEN, LOWEST_FINITE),
        (SamplingParams(1.0, 0, 1.0, 0.05, 0), 15.0 + math.log(0.05)),
        (SamplingParams(1.0, 0, 1.0, 0.05, 0, typical_p=0.5), LOWEST_FINITE),
        (SamplingParams(1.0, 0, 1.0, 0.0, 0, top_n_sigma=2.0), sigma_floor(row, 2.0)),
        (SamplingParams(1.0, 0, 1.0, 1e-9, 0, top_n_sigma=2.0), sigma_floor(row, 2.0)),
        (SamplingParams(1.0, 0, 1.0, 0.5, 0, top_n_sigma=2.0), 15.0 + math.log(0.5)),
        (SamplingParams(1.0, 0, 0.9, 0.0, 0, typical_p=0.5), LOWEST_FINITE),
        (SamplingParams(1.0, 2000, 1.0, 0.0, 0, top_n_sigma=2.0), sigma_floor(row, 2.0)),
    ):
        ids, total, size = _first_cut(row, change)
        assert ids.tolist() == np.flatnonzero(row >= floor).tolist()
        assert (total, size) == (math.inf, 2000)
    ids, total, size = _first_cut(row, SamplingParams(1.0, 7, 0.9, 0.0, 0, top_n_sigma=2.0))
    assert ids.tolist() == [i for i in largest(row, 7) if row[i] >= sigma_floor(row, 2.0)]
    assert (total, size) == (math.inf, 7)
    ids, total, size = _first_cut(row, SamplingParams(1.0, 0, 0.9, 0.0, 0))
    assert (ids.tolist(), total) == (
        nucleus_candidates(row, 0.9, LOWEST_FINITE)[0].tolist(),
        pytest.approx(15.0, abs=0.2),
    )
    assert _first_cut(np.full(4, -np.inf, np.float32), OPEN)[0].tolist() == [0]
    assert _first_cut(row, SamplingParams(1.0, 3000, 1.0, 0.0, 0))[2] == 2000


@given(rows, st.floats(0.05, 4.0))
def test_sigma_s_floor(row: list[float], n: float) -> None:
    """So many standard deviations of the possible tokens below the maximum."""
    array = np.array(row, np.float32)
    finite = np.array([x for x in row if x > -math.inf])
    assert standard_deviation(array) == pytest.approx(float(finite.std()), abs=1e-3)
    assert sigma_floor(array, 0.0) == sigma_floor(array, -1.0) == LOWEST_FINITE
    expected = float(array.max()) - n * float(finite.std()) if len(row) > 1 else LOWEST_FINITE
    assert sigma_floor(array, n) == pytest.approx(expected, abs=1e-2)


def test_sigma_of_an_impossible_row() -> None:
    """Removes nothing."""
    assert sigma_floor(np.full(3, -np.inf, np.float32), 1.0) == LOWEST_FINITE


@given(rows, st.sampled_from([{}, {"min_p": 0.2}, {"top_p": 0.9}, {"typical_p": 0.9}, {"top_k": 5}, {"top_k": 500}]))
def test_sizes_are_what_llama_cpp_counts(row: list[float], change: dict[str, float]) -> None:
    """Tokens of probability 0 count until a sampler looks at probabilities. XTC takes away the first ones."""
    assume("typical_p" not in change or min(row) > -math.inf)
    params = SamplingParams(**{**vars(OPEN), **change, "xtc_probability": 1.0, "xtc_threshold": 0.1})
    array = np.array(row, np.float32)
    plain, cut = truncate(array, params), truncate(array, params, True)
    looked = set(change) & {"min_p", "top_p", "typical_p"}
    assert plain.size == (len(plain.ids) if looked else min(params.top_k or len(row), len(row)))
    gone = xtc_count(plain.logits, 0.1)
    assert (cut.ids.tolist(), cut.size) == (plain.ids[gone:].tolist(), plain.size - gone)


@given(st.lists(st.floats(-8, 8), min_size=1, max_size=20), st.floats(0.01, 0.6))
def test_xtc_leaves_the_last_of_the_likely(values: list[float], threshold: float) -> None:
    """All of at least the threshold, but one, are removed."""
    logits = np.array(sorted(values, reverse=True))
    shares = np.exp(logits - logits[0])
    shares /= shares.sum()
    assume((abs(shares - threshold) > 1e-9).all())
    assert xtc_count(logits, threshold) == max(0, sum(share >= threshold for share in shares) - 1)


@given(st.integers(0, 2**64 - 1), st.sampled_from([0.1, 0.5, 1.0]))
def test_xtc_acts_by_its_draw(seed: int, probability: float) -> None:
    """Of the position; never with nothing to exclude."""
    sampler = Sampler(SamplingParams(1.0, 0, 1.0, 0.0, seed, xtc_probability=probability, xtc_threshold=0.1))
    never = Sampler(SamplingParams(1.0, 0, 1.0, 0.0, seed, xtc_probability=0.0, xtc_threshold=0.1))
    for position in range(8):
        assert sampler._xtc_acts(position) == (xtc_draw(seed, position) <= probability)
        assert not never._xtc_acts(position)


@given(
    st.lists(st.floats(-5, 5), min_size=1, max_size=20), st.floats(0.1, 2.0), st.floats(0.05, 2.5), st.floats(0.2, 3.0),
    st.integers(0, 9),
)  # fmt: skip
def test_a_dynamic_temperature_grows_with_entropy(
    values: list[float], middle: float, span: float, exponent: float, more: int
) -> None:
    """From the lower to the upper end, relative to that of as many equal tokens as are counted."""
    logits = np.array(sorted(values, reverse=True))
    left = Candidates(np.arange(len(values)), logits, len(values) + more)
    params = SamplingParams(middle, 0, 1.0, 0.0, 0, dynatemp_range=span, dynatemp_exponent=exponent)
    shares = np.exp(logits) / np.exp(logits).sum()
    entropy = -sum(p * math.log(p) for p in shares.tolist())
    low, high = max(0.0, middle - span), middle + span
    count = len(values) + more
    share = min(1.0, entropy / math.log(count)) if count > 1 else 0.0
    expected = low + (high - low) * max(0.0, share) ** exponent if count > 1 else 1.0
    assert temperature(left, params) == pytest.approx(expected, abs=1e-4)
    assert temperature(left, SamplingParams(middle, 0, 1.0, 0.0, 0)) == middle


@given(st.integers(0, 2**64 - 1), st.integers(0, 1000), st.floats(-3.0, 25.0))
def test_a_threshold_of_bits_misses_nobody(seed: int, position: int, noise: float) -> None:
    """Ids with more noise have more bits, and hardly any others do."""
    ids = np.arange(300)
    above = gumbel(seed, position, ids) > noise
    passed = bits(seed, position, ids) > bits_threshold(noise)
    assert (passed >= above).all()
    assert (passed <= (gumbel(seed, position, ids) > noise - 1e-3)).all()


@pytest.mark.parametrize("n_vocab", [8191, 8192, 8192 + 63, 32_063])
@pytest.mark.parametrize("lead", [0.0, 9.0, 90.0])
def test_confidence_in_the_last_tokens_of_a_long_row(n_vocab: int, lead: float) -> None:
    """Which are in no block: at most 1, and at least the probability."""
    row = row_of(n_vocab)
    for token in (n_vocab - 1, n_vocab - 40, 0):
        leading = row.copy()
        leading[token] += lead
        weights = np.exp(leading.astype(np.float64) - leading.max())
        exact = float(weights[token] / weights.sum())
        found = Sampler.confidence(leading, token)
        assert exact * (1 - 1e-5) <= found <= 1.0
        if n_vocab < 8192:
            assert found == pytest.approx(exact, rel=1e-4)
    row[5] = -np.inf
    assert Sampler.confidence(row, 5) == 0.0
