"""Agreement with llama.cpp's own sampler chain: what is left, and with which logits, before the draw.

Where llama.cpp leaves the order of equal logits open, and where its float sums decide at a threshold, there is nothing
to agree on: logits are compared as a multiset, and draws at a threshold are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from localspec.gguf.header import read_header
from localspec.llama.binding import bindings
from localspec.llama.model import LlamaModel
from localspec.models.resolve import TINY_TARGET
from localspec.params import ContextParams, SamplingParams
from localspec.sampling import Candidates, Row, Sampler, find_sequence_breakers, truncate
from localspec.sampling.truncation import temperature
from tests.helpers.llama_chain import LlamaChain

OPEN = SamplingParams(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=0)
#: A coarse grid for ties, wide and narrow rows, impossible tokens.
logit = st.integers(-12, 12).map(lambda n: n / 2) | st.floats(-20, 20, width=32)
maybe_impossible = logit | st.just(-math.inf)
rows = st.lists(maybe_impossible, min_size=1, max_size=200).filter(lambda row: max(row) > -math.inf)
possible_rows = st.lists(logit, min_size=1, max_size=200)
inner = st.floats(0.01, 0.99)


def left(row: Row, params: SamplingParams, *, excluding: bool = True) -> tuple[Candidates, list[float]]:
    """Our survivors, and their logits divided by the temperature."""
    kept = truncate(row, params, params.excludes and excluding)
    heat = temperature(kept, params)
    return kept, [float(x) / heat for x in kept.logits] if heat > 0 else [float(kept.logits[0])]


def nudged(params: SamplingParams) -> Iterator[SamplingParams]:
    """The same with every threshold a little lower, or higher."""
    for sign in (-1, 1):
        by = 1 + sign * 3e-5
        ratios = {
            name: min(1.0, getattr(params, name) * by)
            for name in ("top_p", "min_p", "typical_p", "xtc_threshold")
            if getattr(params, name) < 1.0
        }
        yield replace(params, **ratios, top_n_sigma=params.top_n_sigma * by if params.top_n_sigma > 0 else -1.0)


def on_an_edge(row: Row, params: SamplingParams) -> bool:
    """True if rounding decides which tokens are left: a sum or a logit is within float precision of its threshold."""
    kept = truncate(row, params, params.excludes).ids.tolist()
    return any(truncate(row, other, params.excludes).ids.tolist() != kept for other in nudged(params))


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.exp(logits - logits.max())
    found: NDArray[np.float64] = weights / weights.sum()
    return found


def agrees(row: Row, params: SamplingParams) -> None:
    """Our chain leaves what llama.cpp's leaves, with the logits that it has."""
    kept, ours = left(row, params)
    with LlamaChain(params, len(row)) as chain:
        ids, theirs = chain.apply(row)
    real = theirs > -np.inf
    ids, theirs = ids[real], theirs[real]
    order = np.argsort(-theirs, kind="stable")
    assert len(ours) == len(theirs)
    if params.dynatemp_range == 0.0:
        assert np.allclose(ours, theirs[order], rtol=2e-5, atol=2e-5)
    else:  # its entropy, in floats, loses digits where one token has nearly everything
        assert np.allclose(softmax(np.array(ours)), softmax(theirs[order]), atol=1e-3)
    gone = np.delete(row, kept.ids)
    if not np.isin(gone, row[kept.ids]).any() and len(ours) == len(kept.ids):
        assert sorted(kept.ids.tolist()) == sorted(ids.tolist())


SINGLE: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "temperature": st.builds(dict, temperature=st.floats(0.05, 3)),
    "greedy": st.just({"temperature": 0.0}),
    "top_k": st.builds(dict, top_k=st.integers(1, 210)),
    "top_p": st.builds(dict, top_p=inner),
    "min_p": st.builds(dict, min_p=inner),
    "top_n_sigma": st.builds(dict, top_n_sigma=st.floats(0.05, 4)),
    "xtc": st.builds(dict, xtc_probability=st.just(1.0), xtc_threshold=st.floats(0.01, 0.5)),
    "dynatemp": st.builds(
        dict, temperature=st.floats(0.1, 2), dynatemp_range=st.floats(0.05, 2.5), dynatemp_exponent=st.floats(0.2, 3)
    ),
}


@pytest.mark.parametrize("name", SINGLE)
@given(row=rows, data=st.data())
@settings(max_examples=80)
def test_each_sampler_is_llama_cpp_s(name: str, row: list[float], data: st.DataObject) -> None:
    """Alone, on rows with ties and impossible tokens."""
    params, array = replace(OPEN, **data.draw(SINGLE[name])), np.array(row, np.float32)
    assume(not on_an_edge(array, params))
    agrees(array, params)


@given(possible_rows, st.integers(0, 50), inner)
@settings(max_examples=80)
def test_typical_is_llama_cpp_s(row: list[float], k: int, p: float) -> None:
    """Alone and after top-k. Impossible tokens make llama.cpp's entropy NaN, and nothing to agree with."""
    params, array = replace(OPEN, top_k=k, typical_p=p), np.array(row, np.float32)
    values = np.sort(array)[::-1][: k or None].astype(np.float64)
    logs = values - values[0] - math.log(np.exp(values - values[0]).sum())
    unlike = np.unique(np.round(np.abs(-logs + (np.exp(logs) * logs).sum()), 9))
    assume((np.diff(unlike) > 1e-5).all())  # else float rounding orders them
    assume(len(np.unique(values)) == len(values) or not _ties_at_the_end(array, params))
    assume(not on_an_edge(array, params))
    agrees(array, params)


def _ties_at_the_end(row: Row, params: SamplingParams) -> bool:
    """True if all equal logits at the end survive."""
    kept = truncate(row, params).logits.tolist()
    return any(kept.count(x) < row.tolist().count(x) for x in set(kept))


chains = st.builds(
    SamplingParams,
    temperature=st.floats(0.1, 2),
    top_k=st.sampled_from([0, 1, 5, 40]),
    top_p=st.sampled_from([1.0, 0.95, 0.5]),
    min_p=st.sampled_from([0.0, 0.05, 0.3]),
    seed=st.just(0),
    top_n_sigma=st.sampled_from([-1.0, 1.0, 2.5]),
    xtc_probability=st.sampled_from([0.0, 1.0]),
    xtc_threshold=st.sampled_from([0.1, 0.05, 0.3, 0.6]),
    dynatemp_range=st.sampled_from([0.0, 0.5]),
)


@given(rows, chains)
@settings(max_examples=250)
def test_the_chain_is_llama_cpp_s(row: list[float], params: SamplingParams) -> None:
    """All of them together, in its order."""
    array = np.array(row, np.float32)
    assume(not on_an_edge(array, params))
    agrees(array, params)


@given(possible_rows, chains, inner)
@settings(max_examples=80)
def test_the_chain_with_typical_is_llama_cpp_s(row: list[float], params: SamplingParams, p: float) -> None:
    """The same with typical-p in its place."""
    params, array = replace(params, typical_p=p, top_n_sigma=-1.0), np.array(row, np.float32)
    assume(len(set(array.tolist())) == len(array))
    assume(not on_an_edge(array, params))
    agrees(array, params)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"top_k": 40, "top_p": 0.95, "min_p": 0.05},
        {"top_p": 0.9},
        {"min_p": 0.02},
        {"top_n_sigma": 1.0},
        {"typical_p": 0.9},
        {"top_k": 200, "typical_p": 0.5, "xtc_probability": 1.0, "xtc_threshold": 0.02},
        {"xtc_probability": 1.0, "xtc_threshold": 0.01},
        {"dynatemp_range": 0.5},
        {"top_k": 1000, "dynatemp_range": 0.5, "dynatemp_exponent": 2.0},
    ],
)
def test_a_large_vocabulary_is_llama_cpp_s(change: dict[str, Any]) -> None:
    """151,936 tokens, where ours looks at few of them."""
    row = np.random.default_rng(5).normal(0, 2.5, 151_936).astype(np.float32)
    row[[7, 70_000, 151_935, 12]] += np.array([12, 11, 10.5, 9], np.float32)
    params = replace(OPEN, temperature=0.8, **change)
    kept, ours = left(row, params)
    with LlamaChain(params, len(row)) as chain:
        ids, theirs = chain.apply(row)
    real = theirs > -np.inf
    ids, theirs = ids[real], np.sort(theirs[real])[::-1]
    assert abs(len(ours) - len(ids)) <= 1 + 2e-3 * len(ids)  # its sums of so many floats are that rough
    shorter = min(len(ours), len(ids))
    assert np.allclose(ours[:shorter], theirs[:shorter], rtol=2e-3, atol=1e-3)
    assert len(set(ids.tolist()) ^ set(kept.ids.tolist())) <= 1 + 4e-3 * len(ids)


IMPOSSIBLE = [-math.inf, 3.0, -math.inf, -math.inf]
ADVERSARIAL: list[tuple[list[float], dict[str, Any]]] = [
    ([5.0] * 24, {"top_k": 7}),
    ([5.0] * 24, {"top_n_sigma": 1.0}),
    ([5.0] * 24, {"min_p": 1.0}),
    ([5.0] * 5, {"xtc_probability": 1.0, "xtc_threshold": 0.1}),
    ([5.0] * 5, {"dynatemp_range": 0.5}),
    (IMPOSSIBLE, {"top_k": 3}),
    (IMPOSSIBLE, {"top_k": 3, "top_p": 0.9, "min_p": 0.1, "top_n_sigma": 1.0}),
    (IMPOSSIBLE, {"xtc_probability": 1.0, "dynatemp_range": 0.5}),
    ([2.0], {"top_k": 3, "typical_p": 0.5, "top_p": 0.1, "min_p": 1.0, "xtc_probability": 1.0, "dynatemp_range": 1.0}),
    ([9.0, 0.0, 0.0], {"xtc_probability": 1.0, "xtc_threshold": 0.5}),
    ([1.0, 1.0, -30.0], {"xtc_probability": 1.0, "xtc_threshold": 0.4}),
    ([1e30, 0.0, -1e30], {"top_k": 2, "top_p": 0.9, "min_p": 0.1}),
    ([3.0, -math.inf, 2.0, 2.0], {"temperature": 0.0, "xtc_probability": 1.0, "xtc_threshold": 0.1}),
    ([80.0, -80.0, 0.0], {"dynatemp_range": 0.8, "temperature": 0.8}),
]


@pytest.mark.parametrize(("row", "change"), ADVERSARIAL)
def test_adversarial_rows_are_llama_cpp_s(row: list[float], change: dict[str, Any]) -> None:
    """Ties, infinities, one survivor, the far ends."""
    agrees(np.array(row, np.float32), replace(OPEN, **change))


# What tokens before a position do.


@pytest.fixture(scope="module")
def tiny() -> Iterator[LlamaModel]:
    """The built-in model, for its vocabulary."""
    model = LlamaModel(read_header(TINY_TARGET), ContextParams())
    yield model
    model.close()


def shaped_by_llama(row: Row, params: SamplingParams, tokens: list[int], vocab: Any = None) -> NDArray[np.float32]:
    with LlamaChain(params, len(row), vocab) as chain:
        chain.accept(tokens)
        ids, logits = chain.apply(row)
    shaped = np.empty_like(row)
    shaped[ids] = logits
    return shaped


history = st.lists(st.integers(0, 30), max_size=90)
penalties = st.builds(
    dict,
    repeat_penalty=st.sampled_from([1.0, 1.1, 0.5, 3.0]),
    repeat_last_n=st.sampled_from([0, 1, 5, 64, 1000]),
    presence_penalty=st.sampled_from([0.0, 0.5, -1.5]),
    frequency_penalty=st.sampled_from([0.0, 0.25, -0.5]),
    logit_bias=st.dictionaries(st.integers(0, 30), st.sampled_from([1.5, -2.0, -math.inf, 100.0]), max_size=4),
)


@given(st.lists(maybe_impossible, min_size=31, max_size=60), history, st.integers(0, 12), penalties)
@settings(max_examples=120)
def test_penalties_and_bias_are_llama_cpp_s(
    row: list[float], tokens: list[int], ahead: int, change: dict[str, Any]
) -> None:
    """Every logit, with some of the tokens only looked ahead at."""
    params, array = replace(OPEN, **change), np.array(row, np.float32)
    at = max(0, len(tokens) - ahead)
    found = Sampler(params).adjust(array, tokens[:at], tokens[at:])
    assert np.allclose(found, shaped_by_llama(array, params, tokens), rtol=1e-6, atol=1e-6)


dry = st.builds(
    dict,
    dry_multiplier=st.sampled_from([0.8, 3.0]),
    dry_base=st.sampled_from([1.0, 1.75, 1e6]),
    dry_allowed_length=st.sampled_from([0, 1, 2, 5]),
    dry_penalty_last_n=st.sampled_from([1, 8, 64, 1000]),
    dry_sequence_breakers=st.sampled_from([(), ("\n", ":", '"', "*"), ("e", "wanted to"), ("upon a time", "n a")]),
)
#: A few of each kind: letters, words, breakers whole and in part.
TEXTS = ("\n", '"', ":", "a", "e", " a", "the", " upon", " time", "wanted", " to", "n", "on", " ")


@given(st.lists(st.integers(0, len(TEXTS) - 1), max_size=80), st.integers(0, 20), st.integers(0, 12), dry)
@settings(max_examples=120)
def test_dry_is_llama_cpp_s(
    tiny: LlamaModel, words: list[int], repeated: int, ahead: int, change: dict[str, Any]
) -> None:
    """Every logit, on texts that repeat themselves, over breakers of one token and of several."""
    tokens = [token for i in words for token in tiny.vocabulary.tokenize(TEXTS[i], add_special=False)]
    tokens += tokens[max(0, len(tokens) - 2 * repeated) :][:repeated]
    params, row = replace(OPEN, **change), np.linspace(-5, 5, tiny.n_vocab, dtype=np.float32)
    at = max(0, len(tokens) - ahead)
    sampler = Sampler(params, breakers=find_sequence_breakers(tiny.vocabulary, params.dry_sequence_breakers))
    found = sampler.adjust(row, tokens[:at], tokens[at:])
    vocab = bindings().llama_model_get_vocab(tiny.handle)
    expected = shaped_by_llama(row, params, tokens, vocab)
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_long_repetition_costs_no_more_than_a_float(tiny: LlamaModel) -> None:
    """The power stops where float32 ends, as llama.cpp's does."""
    params = replace(OPEN, dry_multiplier=2.0, dry_penalty_last_n=1000, dry_sequence_breakers=())
    tokens, row = [5] * 900, np.zeros(tiny.n_vocab, np.float32)
    found = Sampler(params).adjust(row, tokens)
    assert found[5] == shaped_by_llama(row, params, tokens, bindings().llama_model_get_vocab(tiny.handle))[5]
    assert found[5] < -1e30
