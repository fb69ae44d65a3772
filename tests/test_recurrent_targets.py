"""Laws of whole engines on recurrent and hybrid targets: drafting, chats, cancels and saved caches change no token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import localspec
from localspec.control.base import FixedDepth
from localspec.engine import Engine
from localspec.testing import ScriptedDrafter
from tests.helpers.random_models import random_model

ARCHITECTURES = ("qwen35", "qwen35moe", "qwen3next", "lfm2", "nemotron_h", "mamba2")
PROMPT = "Once there was a little owl who lived in a tall pine tree, and every night it looked at the moon. " * 3
SAMPLINGS: tuple[dict[str, Any], ...] = ({"temperature": 0}, {"temperature": 0.8, "seed": 1})


@pytest.fixture(scope="module", params=ARCHITECTURES)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(tmp_path_factory.mktemp("targets") / "target.gguf", request.param)


@pytest.fixture(scope="module")
def plain(path: Path) -> Iterator[Engine]:
    with localspec.load(path, "none", threads=1, ctx_size=1024) as engine:
        yield engine


@pytest.fixture(scope="module")
def drafting(path: Path) -> Iterator[Engine]:
    """Drafts of six tokens, beyond the bound of every architecture."""
    with localspec.load(path, "ngram", threads=1, ctx_size=1024) as engine:
        engine.control = FixedDepth(6)
        yield engine


def fresh(engine: Engine, prompt: str, **options: Any) -> tuple[int, ...]:
    engine.forget()
    return engine.generate(prompt, max_tokens=24, **options).tokens


def guess_from(engine: Engine, text: list[int], wrong: Callable[[int], bool]) -> None:
    """Draft the next tokens of ``text``, some of them ``wrong``."""

    def script(tokens: list[int]) -> list[int]:
        at = len(tokens)
        return [token + 1 if wrong(at + i) else token for i, token in enumerate(text[at : at + 6])]

    engine._pair = replace(engine._pair, drafters=(ScriptedDrafter(script),))


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["greedy", "seeded"])
@pytest.mark.parametrize("every", [1, 2, 3, 5, 7, 1000])
def test_drafts_of_any_acceptance_give_the_same_tokens(
    plain: Engine, drafting: Engine, sampling: dict[str, Any], every: int
) -> None:
    """In an empty cache, and in one that holds the answer before."""
    expected = fresh(plain, PROMPT, **sampling)
    guess_from(drafting, [*plain.tokenize(PROMPT, add_special=True), *expected], lambda at: at % every == every - 1)
    for prompt in (PROMPT, PROMPT[:200], PROMPT):
        done = drafting.generate(prompt, max_tokens=24, **sampling)
        assert done.tokens == (expected if prompt == PROMPT else fresh(plain, prompt, **sampling))
    assert done.stats.accepted > 10 or every < 5


def test_exactness_is_proved(plain: Engine, drafting: Engine) -> None:
    """Of passes of every width that is drafted in: Q8_0 rows are exact on a CPU, with recurrent layers too."""
    assert (plain.exactness, drafting.exactness, drafting.passes.width) == ("exact", "exact", 1)


def test_chat_turns_are_those_of_a_chat_without_drafts(plain: Engine, drafting: Engine) -> None:
    """Turns that go on, a last message that is changed, and an answer that is asked for again."""
    for engine in (plain, drafting):
        engine.forget()
    messages: list[dict[str, str]] = []
    for text in ("Tell me of an owl. " * 6, "And of the moon. " * 5, "Why? " * 20):
        messages.append({"role": "user", "content": text})
        for last in ("", " Please.", ""):
            asked = [*messages[:-1], {"role": "user", "content": text + last}]
            reply, again = (engine.chat(asked, max_tokens=12, temperature=0) for engine in (drafting, plain))
            assert reply.tokens == again.tokens
            if len(messages) == 1:
                assert reply.tokens == fresh_chat(plain, asked)
        messages.append({"role": "assistant", "content": reply.text})
    assert reply.stats.cached_tokens > 0


def fresh_chat(engine: Engine, messages: list[dict[str, str]]) -> tuple[int, ...]:
    engine.forget()
    return engine.chat(messages, max_tokens=12, temperature=0).tokens


def test_cancelled_answer_leaves_the_cache_right(plain: Engine, drafting: Engine) -> None:
    """After any number of chunks."""
    expected = fresh(plain, PROMPT, temperature=0)
    for chunks in (1, 2, 5):
        stream = drafting.stream(PROMPT + " x", max_tokens=24, temperature=0)
        for _ in range(chunks):
            next(stream)
        stream.close()
        assert drafting.generate(PROMPT, max_tokens=24, temperature=0).tokens == expected


def test_saved_cache_goes_on(drafting: Engine, tmp_path: Path) -> None:
    """With the tokens of a cache that was never left."""
    drafting.forget()
    first = drafting.generate(PROMPT, max_tokens=8, temperature=0)
    drafting.save_state(tmp_path / "state")
    expected = drafting.generate(PROMPT + first.text, max_tokens=12, temperature=0).tokens
    drafting.forget()
    drafting.load_state(tmp_path / "state")
    assert drafting.generate(PROMPT + first.text, max_tokens=12, temperature=0).tokens == expected


def test_saved_cache_returns_to_a_checkpoint(drafting: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where cells depend on their passes, what follows is read from the last whole chunk on, not from the beginning."""
    monkeypatch.setattr(drafting, "_setup", replace(drafting._setup, chunk=64))
    drafting._pair.prefill.use_chunk(64)
    drafting.forget()
    first = drafting.generate(PROMPT, max_tokens=8, temperature=0)
    drafting.save_state(tmp_path / "state")
    expected = drafting.generate(PROMPT + first.text, max_tokens=12, temperature=0)
    drafting.forget()
    assert drafting.load_state(tmp_path / "state") >= 64
    found = drafting.generate(PROMPT + first.text, max_tokens=12, temperature=0)
    drafting._pair.prefill.use_chunk(1)
    assert found.tokens == expected.tokens
    assert found.stats.cached_tokens == expected.stats.cached_tokens >= 64


def test_conversations_at_once_are_those_alone(path: Path, plain: Engine) -> None:
    """Prompts that share a beginning, with lookup on."""
    prompts = [PROMPT, PROMPT + " It was", PROMPT[:150], PROMPT]
    expected = [fresh(plain, prompt, temperature=0) for prompt in prompts]
    with localspec.load(path, "ngram", threads=1, ctx_size=512, parallel=2) as engine:
        engine.control = FixedDepth(3)
        streams = [engine.stream(prompt, max_tokens=24, temperature=0) for prompt in prompts]
        found = [tuple(token for chunk in stream for token in chunk.tokens) for stream in streams]
    assert found == expected


def test_recurrent_model_drafts(path: Path, plain: Engine, tmp_path: Path) -> None:
    """It returns to a checkpoint where its guesses were wrong, or reads on where they were right."""
    expected = fresh(plain, PROMPT, temperature=0)
    for seed, draft in ((1, random_model(tmp_path / "other.gguf", "qwen35", seed=1)), (0, tmp_path / "same.gguf")):
        if seed == 0:
            draft.write_bytes(path.read_bytes())
        with localspec.load(path, draft, threads=1, ctx_size=512) as engine:
            engine.control = FixedDepth(3, only="model")
            for _ in range(2):
                done = engine.generate(PROMPT, max_tokens=24, temperature=0)
                assert done.tokens == expected
            assert (done.stats.accepted > 10) == (seed == 0)
