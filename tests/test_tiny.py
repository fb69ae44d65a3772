"""Laws of generation on the built-in pair: real models, real files, llama.cpp."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import localspec
from localspec.engine import Engine
from localspec.errors import (
    PromptTooLongError,
)
from localspec.models.resolve import TINY_TARGET
from tests.helpers.support import load_fixed

PROMPTS = ("Once upon a time", "The little fox was")
SAMPLINGS: tuple[dict[str, Any], ...] = (
    {"temperature": 0},
    {"temperature": 0.8, "seed": 1},
    {"temperature": 0.8, "seed": 2},
    {"temperature": 1.2, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": 3},
)
GREEDY = {"temperature": 0, "max_tokens": 24}


def load(target: str | Path = "tiny", draft: str | Path = "none", **options: Any) -> Engine:
    """One thread, so that tests do not fight for the cores; every draft token is proposed, however unsure."""
    return load_fixed(target, draft, **options)


@pytest.fixture(scope="module", params=["none", "ngram", "auto"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """The pair with each kind of drafter."""
    with load(draft=request.param) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def plain() -> Iterator[Engine]:
    """The target alone."""
    with load() as loaded:
        yield loaded


# The same output.


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["greedy", "seed 1", "seed 2", "seed 3, open"])
@pytest.mark.parametrize("draft", ["ngram", "auto"])
def test_any_drafter_any_width_same_tokens(plain: Engine, draft: str, sampling: dict[str, Any]) -> None:
    """Greedy and for every seed, with drafts of 1 to 8 tokens."""
    proposed = 0
    with load(draft=draft) as drafting:
        for prompt in PROMPTS:
            expected = plain.generate(prompt, max_tokens=24, **sampling)
            for width in range(1, 9):
                found = drafting.generate(prompt, max_tokens=24, draft_max=width, **sampling)
                assert (found.tokens, found.text) == (expected.tokens, expected.text), f"{prompt!r}, width {width}"
                proposed += found.stats.proposed
    assert proposed or draft == "ngram"


@pytest.mark.parametrize("draft", ["ngram", "auto"])
def test_same_tokens_beyond_the_sliding_window_and_the_batch(plain: Engine, draft: str) -> None:
    """A prompt of several windows and more than one batch, greedy and sampled."""
    prompt = "Once upon a time there was a little fox. The fox had a red ball. " * 36
    with load(draft=draft) as drafting:
        for sampling in SAMPLINGS[:2]:
            expected = plain.generate(prompt, max_tokens=24, **sampling)
            assert expected.stats.prompt_tokens > 600
            for width in (1, 3, 8):
                assert drafting.generate(prompt, max_tokens=24, draft_max=width, **sampling).tokens == expected.tokens


def test_model_as_its_own_drafter_is_always_right(plain: Engine, tmp_path: Path) -> None:
    """With the target's weights every token of the draft model is accepted; n-gram lookup goes before it."""
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(TINY_TARGET.read_bytes())
    with load(draft=copy) as drafting:
        assert drafting.drafters == ("ngram", "model")
        for sampling in SAMPLINGS:
            found = drafting.generate(PROMPTS[0], max_tokens=24, **sampling)
            assert found.tokens == plain.generate(PROMPTS[0], max_tokens=24, **sampling).tokens
            count = found.stats.by_drafter["model"]
            assert count.accepted == count.proposed > 0


def test_automatic_drafter_of_tiny_is_its_assistant() -> None:
    """Found without being named."""
    with load(draft="auto") as drafting:
        assert drafting.drafters == ("ngram", "mtp")


def test_any_past_same_tokens(engine: Engine) -> None:
    """Prompts that share a beginning, in any order, and the same again: the cache changes nothing."""
    prompts = (*PROMPTS, PROMPTS[0] + " there was", PROMPTS[0], PROMPTS[0], PROMPTS[1])
    expected = {}
    for prompt in set(prompts):
        with load() as fresh:
            expected[prompt] = fresh.generate(prompt, **GREEDY).tokens
    for prompt in prompts:
        assert engine.generate(prompt, **GREEDY).tokens == expected[prompt]


def test_stream_says_what_generate_says(engine: Engine) -> None:
    """Chunk by chunk, and the text is that of the tokens."""
    done = engine.generate(PROMPTS[0], **GREEDY)
    *chunks, last = list(engine.stream(PROMPTS[0], **GREEDY))
    assert last.completion is not None
    assert last.completion.tokens == done.tokens == tuple(t for chunk in chunks for t in chunk.tokens)
    assert "".join(chunk.text for chunk in [*chunks, last]) == done.text == engine.detokenize(done.tokens)


@pytest.mark.parametrize("text", ["Hello, world!", "Zażółć gęślą jaźń 😀", " two  spaces\n\ttab", "<|turn>x<turn|>"])
def test_detokenize_undoes_tokenize(plain: Engine, text: str) -> None:
    """Control tokens have no text; all other text comes back."""
    assert plain.detokenize(plain.tokenize(text)) == text.replace("<|turn>", "").replace("<turn|>", "")


# Chat.


def converse(engine: Engine, turns: int, **options: Any) -> list[localspec.Completion]:
    messages: list[dict[str, str]] = []
    done = []
    for k in range(turns):
        messages.append({"role": "user", "content": f"Tell me story number {k}."})
        done.append(engine.chat(messages, **options))
        messages.append({"role": "assistant", "content": done[-1].text})
    return done


@pytest.mark.parametrize("budget", [12, 60])
def test_each_turn_prefills_only_what_is_new(engine: Engine, budget: int) -> None:
    """Over six turns: of the past at most the last token, whose row is not kept."""
    engine.forget()
    done = converse(engine, 6, temperature=0, max_tokens=budget)
    for last, now in pairwise(done):
        new = now.stats.prompt_tokens - last.stats.prompt_tokens - len(last.tokens)
        assert 0 < new < 40
        assert now.stats.prefilled_tokens <= new + 1


def test_chat_is_the_same_with_any_drafter(engine: Engine, plain: Engine) -> None:
    """Turn after turn, greedy and sampled."""
    for options in ({"temperature": 0}, {"temperature": 0.9, "seed": 5}):
        engine.forget()
        plain.forget()
        found, expected = (converse(each, 4, max_tokens=30, **options) for each in (engine, plain))
        assert [done.tokens for done in found] == [done.tokens for done in expected]


def test_forget_prefills_everything_again(engine: Engine) -> None:
    """The tokens are the same."""
    first = converse(engine, 1, **GREEDY)[0]
    engine.forget()
    again = converse(engine, 1, **GREEDY)[0]
    assert again.stats.cached_tokens == 0
    assert again.tokens == first.tokens


# Limits.


@pytest.mark.parametrize("draft", ["none", "ngram", "auto"])
@pytest.mark.parametrize("size", [16, 48])
def test_full_context_ends_the_answer(draft: str, size: int) -> None:
    """The answer has every token that fits, a notice, and the tokens of a larger context."""
    with load(draft=draft, ctx_size=size) as small, load() as roomy:
        prompt = PROMPTS[0]
        done = small.generate(prompt, temperature=0.8, seed=1, min_p=0.2)
        room = size - done.stats.prompt_tokens
        assert done.tokens == roomy.generate(prompt, temperature=0.8, seed=1, min_p=0.2, max_tokens=room).tokens
        full = len(done.tokens) == room
        assert full or size > 16
        assert (done.finish_reason == "length", "--ctx-size" in (done.notice or "")) == (full, full)
        with pytest.raises(PromptTooLongError, match=f"context holds {size}"):
            small.generate("word " * size)
        assert small.generate(prompt, temperature=0.8, seed=1, min_p=0.2).tokens == done.tokens


def test_smallest_context_works() -> None:
    """Two tokens: the BOS and one more hold no prompt, which is an error."""
    with load(ctx_size=2) as small, pytest.raises(PromptTooLongError):
        small.generate(PROMPTS[0])
