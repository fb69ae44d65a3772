"""Laws of prefill: an answer is that of a fresh engine, whatever was cached before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localspec.engine import Engine
from localspec.generation.passes import PassShape
from localspec.generation.prefill import CHUNK, Prefill
from localspec.probe.batch_invariance import probe
from localspec.testing import ScriptedDrafter, chain_logits
from tests.helpers.width_context import WidthContext, width_engine

N_VOCAB = 128
LOGITS = chain_logits(N_VOCAB, 5)
SAMPLED: dict[str, Any] = {"max_tokens": 12, "temperature": 0.9, "seed": 3}


def context(group: int | None = 8, narrow: int = 3) -> WidthContext:
    return WidthContext(LOGITS, N_VOCAB, narrow=narrow, group=group)


def drafter() -> ScriptedDrafter:
    return ScriptedDrafter(lambda tokens: [tokens[-1], tokens[-1] + 1 & 127])


def answers(engine: Engine, prompts: list[str]) -> list[tuple[int, ...]]:
    return [engine.generate(prompt, **SAMPLED).tokens for prompt in prompts]


#: Prompts that share beginnings of every length, often whole chunks, and end anywhere in a chunk.
LENGTHS = st.one_of(st.integers(1, 300), st.sampled_from([64, 128, 256]))
PROMPTS = st.lists(
    st.tuples(LENGTHS, st.one_of(st.just(0), st.integers(0, 90)), st.sampled_from("xyz")).map(
        lambda cut: ("The river rises in the hills. " * 10)[: cut[0]] + cut[2] * cut[1]
    ),
    min_size=2,
    max_size=5,
)


@given(
    PROMPTS,
    st.sampled_from([(8, 64), (16, 64), (8, 256), (None, 256)]),
    st.booleans(),
    st.sampled_from([PassShape(3), *map(PassShape.fixed, (2, 6, 16))]),
)
@settings(max_examples=60, deadline=None)
def test_answers_are_those_of_fresh_engines(
    prompts: list[str], cells: tuple[int | None, int], drafts: bool, passes: PassShape
) -> None:
    """For prompts that share any part with those before, with and without a drafter, in padded passes too."""
    group, chunk = cells
    drafters = [drafter()] if drafts else []
    found = answers(width_engine(context(group), chunk, passes, drafters), prompts)
    assert found == [answers(width_engine(context(group), chunk, passes), [prompt])[0] for prompt in prompts]


@given(PROMPTS)
@settings(max_examples=20, deadline=None)
def test_answers_do_not_depend_on_what_is_known_of_the_cells(prompts: list[str]) -> None:
    """Before the probe has found the chunk, less is reused, and the tokens are the same."""
    assert answers(width_engine(context(), 256), prompts) == answers(width_engine(context(), 64), prompts)


@pytest.mark.parametrize(("width", "chunk", "found"), [(100, 64, 64), (100, 100, 64), (256, 256, 256), (256, 1, 1)])
def test_passes_have_whole_chunks(width: int, chunk: int, found: int) -> None:
    """Where the passes matter, so what is reused is a multiple of chunks too."""
    assert Prefill(width, chunk).chunk == found


def test_a_chat_s_answers_are_those_of_fresh_engines() -> None:
    """Its prompts hold generated tokens, whose cells come from narrow passes."""
    messages: list[Any] = []
    engine = width_engine(context(), 64, drafters=[drafter()])
    for turn in range(6):
        messages.append({"role": "user", "content": f"question {turn} " * (1 + 3 * turn)})
        prompt = engine.prompt_tokens(messages)
        done = engine.chat(messages, **SAMPLED)
        fresh = width_engine(context(), 64)
        expected = fresh.generate("".join(map(chr, prompt)), **SAMPLED)
        assert done.tokens == expected.tokens
        assert done.stats.cached_tokens % 64 == 0
        messages.append({"role": "assistant", "content": done.text})
    assert done.stats.cached_tokens > 0


def test_a_part_behind_the_last_chunk_is_not_reused() -> None:
    """Though it ends where a whole pass would: a longer prompt has that pass in place of two."""
    prompts = ["a" * 256, "a" * 257]
    fresh = [answers(width_engine(context(None), 256), [prompt])[0] for prompt in prompts]
    assert answers(width_engine(context(None), 256), prompts) == fresh


def test_reusing_everything_changes_answers() -> None:
    """The laws above can fail."""
    prompts = ["The river rises in the hills above the town. " * n + "So" for n in (2, 3, 4)]
    fresh = [answers(width_engine(context(), 1), [prompt])[0] for prompt in prompts]
    assert answers(width_engine(context(), 1), prompts) != fresh


def test_whole_chunks_of_prompts_are_reused() -> None:
    """Not those that hold generated tokens, nor the one that the prompt ends in; a pass has whole chunks."""
    target = context()
    engine = width_engine(target, 64)
    first = engine.generate("a" * 200, **SAMPLED)
    assert target.decoded[:2] == [192, 8]
    again = engine.generate("a" * 200 + first.text + "b" * 100, **SAMPLED)
    assert (first.stats.cached_tokens, again.stats.cached_tokens) == (0, 192)
    assert engine.generate("a" * 128, **SAMPLED).stats.cached_tokens == 64


@pytest.mark.parametrize("chunk", [64, 1])
def test_saved_chunks_are_reused(tmp_path: Path, chunk: int) -> None:
    """In an engine with the same chunks; one with others decodes the prompt again."""
    first = width_engine(context(), chunk)
    first.generate("a" * 200, **SAMPLED)
    first.save_state(tmp_path / "state")
    second = width_engine(context(), 64)
    assert second.load_state(tmp_path / "state") == (192 if chunk == 64 else 0)
    done = second.generate("a" * 200 + "b" * 20, **SAMPLED)
    assert done.stats.cached_tokens == (192 if chunk == 64 else 0)
    assert done.tokens == width_engine(context(), 64).generate("a" * 200 + "b" * 20, **SAMPLED).tokens


@pytest.mark.parametrize(
    ("group", "narrow", "chunk"), [(8, 32, CHUNK), (8, 3, CHUNK), (64, 1, CHUNK), (48, 3, 256), (None, 3, 256)]
)
def test_probe_finds_the_chunk(group: int | None, narrow: int, chunk: int) -> None:
    """The smallest of 1, 64 and the widest pass whose cells are those of the widest pass."""
    assert probe(context(group, narrow), range(100)).chunk == chunk


def test_probe_finds_that_cells_do_not_depend_on_the_pass() -> None:
    """Then everything is reused."""
    found = probe(context(narrow=256), range(100))
    assert (found.exact, found.chunk) == (True, 1)
