"""Laws of what the tokens before a position do, of XTC's coin, and of samplers made for a vocabulary."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localspec.errors import UsageError
from localspec.params import SamplingParams
from localspec.sampling import Row, Sampler, Samplers, find_sequence_breakers
from localspec.sampling.noise import xtc_draw
from tests.helpers.support import MarkerVocabulary

ROW = np.linspace(-4, 4, 270, dtype=np.float32)
EVERYTHING: dict[str, Any] = {
    "repeat_penalty": 1.3, "repeat_last_n": 7, "presence_penalty": 0.4, "frequency_penalty": 0.3,
    "dry_multiplier": 0.8, "dry_penalty_last_n": 20, "logit_bias": {3: 2.0, 5: -math.inf},
}  # fmt: skip
VOCABULARY = MarkerVocabulary()
pieces = st.lists(st.lists(st.sampled_from([3, 5, 10, 97, 98, 269]), max_size=6), max_size=12)


def sampler(**options: Any) -> Sampler:
    return Samplers(VOCABULARY).make(SamplingParams(seed=1, **options))


@given(pieces, st.lists(st.sampled_from([3, 97, 98]), max_size=5))
def test_a_text_that_grew_is_shaped_like_one_that_is_new(grown: list[list[int]], ahead: list[int]) -> None:
    """Tokens that were looked ahead at and not taken change nothing, step by step."""
    tokens: list[int] = []
    kept = sampler(**EVERYTHING)
    for part in grown:
        kept.adjust(ROW, tokens, [*ahead, *part])
        tokens.extend(part)
        fresh = sampler(**EVERYTHING).adjust(ROW, [*tokens, *ahead])
        assert (kept.adjust(ROW, tokens, ahead) == fresh).all()


def test_a_row_that_nothing_changes_is_not_copied() -> None:
    """The default path hands llama.cpp's buffer on."""
    assert sampler().adjust(ROW, [1, 2, 3]) is ROW
    assert sampler(repeat_penalty=1.3, repeat_last_n=0).adjust(ROW, [1, 2, 3]) is ROW


def test_llama_cpp_s_row_stays_as_it_was() -> None:
    """Penalties go to a copy."""
    before = ROW.copy()
    assert (sampler(**EVERYTHING).adjust(ROW, [3, 97, 97]) != ROW).any()
    assert (before == ROW).all()


def test_a_drafter_s_smaller_vocabulary_is_shaped_too() -> None:
    """Tokens that only the target has are left out of a shorter row."""
    whole, part = sampler(**EVERYTHING), sampler(**EVERYTHING)
    tokens = [97, 98, 97, 98, 97, 260, 98, 97]
    assert (part.adjust(ROW[:200], tokens) == whole.adjust(ROW, tokens)[:200]).all()


class Only:
    """A constraint that allows some tokens."""

    def __init__(self, *allowed: int) -> None:
        self._mask = np.isin(np.arange(len(ROW)), allowed)

    def allowed(self, tokens: Any, ahead: Any = ()) -> Any:
        return self._mask

    def forced(self, tokens: Any, ahead: Any = ()) -> tuple[int, ...]:
        return ()

    def legal(self, tokens: Any, draft: Any) -> int:
        return len(draft)

    def fits(self, tokens: Any, ahead: Any, token: int) -> bool:
        return bool(self._mask[token])


@pytest.mark.parametrize("row", [ROW, np.full(270, -np.inf, np.float32)], ids=["a row", "nothing possible"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_grammar_holds_against_bias(row: Row, temperature: float) -> None:
    """If all allowed tokens have a bias of −inf, one of them is chosen nevertheless."""
    params = SamplingParams(temperature, seed=2, logit_bias={5: -math.inf, 7: -math.inf, 260: 1e6})
    found = {Sampler(params, Only(5, 7)).pick(row, [1] * n) for n in range(1, 30)}
    assert found <= {5, 7}


def test_xtc_s_coin_is_uniform_and_its_own() -> None:
    """It has the requested probability, depends on position and seed, and is independent of the tokens' noise."""
    coins = np.array([[xtc_draw(seed, at) for at in range(400)] for seed in range(10)])
    assert abs((coins <= 0.3).mean() - 0.3) < 5 * math.sqrt(0.21 / coins.size)
    assert len(np.unique(coins)) == coins.size
    row = np.array([4.0, 3.9, 0.0], np.float32)
    acting = [
        Sampler(SamplingParams(0.0, seed=seed, xtc_probability=0.5)).choose(row, at) == 1
        for seed in range(20)
        for at in range(100)
    ]
    assert 0.44 < np.mean(acting) < 0.56


def test_a_bias_on_a_token_that_is_not_there_is_refused() -> None:
    """With its id and the range."""
    samplers = Samplers(VOCABULARY)
    samplers.check(SamplingParams(logit_bias={VOCABULARY.n_tokens - 1: 1.0}))
    with pytest.raises(UsageError, match=f"{VOCABULARY.n_tokens}.*0 to {VOCABULARY.n_tokens - 1}"):
        samplers.check(SamplingParams(logit_bias={VOCABULARY.n_tokens: 1.0}))


def test_a_breaker_of_several_tokens_ends_repetitions() -> None:
    """``the`` is t, he here, or th, e: both count, and a part of it does not."""
    breakers = find_sequence_breakers(VOCABULARY, ["the"])
    assert breakers.tokens_since(np.array([97, 98])) == 2
    for whole in ([ord("t"), VOCABULARY.id("he")], [VOCABULARY.id("th"), ord("e")]):
        assert breakers.tokens_since(np.array([97, *whole, 98, 99])) == 2
    assert breakers.tokens_since(np.array([97, ord("t"), 98, 99])) == 4
