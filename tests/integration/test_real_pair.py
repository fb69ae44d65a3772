"""A real target and drafter: run with ``-m integration`` and LOCALSPEC_EVAL_DIR set to a folder that holds them.

The folder needs ``qwen2.5-coder-1.5b-instruct-q4_0.gguf`` and ``qwen2.5-coder-0.5b-instruct-q4_0.gguf``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import localspec

pytestmark = pytest.mark.integration

FOLDER = Path(os.environ.get("LOCALSPEC_EVAL_DIR", "."))
TARGET = FOLDER / "qwen2.5-coder-1.5b-instruct-q4_0.gguf"
DRAFTER = FOLDER / "qwen2.5-coder-0.5b-instruct-q4_0.gguf"
QUESTION = [{"role": "user", "content": "Write a Python function that merges two sorted lists."}]


@pytest.fixture(scope="module")
def expected() -> dict[int | None, tuple[int, ...]]:
    with localspec.load(TARGET, "none", ctx_size=1024) as llm:
        return {seed: answer(llm, seed) for seed in (None, 1, 2)}


def answer(llm: localspec.Engine, seed: int | None) -> tuple[int, ...]:
    return llm.chat(QUESTION, max_tokens=48, temperature=0.0 if seed is None else 1.0, seed=seed).tokens


@pytest.mark.parametrize("draft", ["ngram", str(DRAFTER)], ids=["ngram", "model"])
@pytest.mark.parametrize("draft_max", [1, 3, None])
def test_any_drafter_any_width_same_tokens(
    draft: str, draft_max: int | None, expected: dict[int | None, tuple[int, ...]]
) -> None:
    """Greedy and seeds, on weights whose rows are batch-invariant on the CPU."""
    with localspec.load(TARGET, draft, ctx_size=1024, draft_max=draft_max) as llm:
        for seed, tokens in expected.items():
            assert answer(llm, seed) == tokens


def test_drafter_decodes_nothing_twice() -> None:
    """The drafter's cache follows the conversation: a second turn drafts at once."""
    with localspec.load(TARGET, DRAFTER, ctx_size=1024) as llm:
        first = llm.chat(QUESTION, max_tokens=32, temperature=0)
        messages = [*QUESTION, {"role": "assistant", "content": first.text}, {"role": "user", "content": "Shorter."}]
        second = llm.chat(messages, max_tokens=32, temperature=0)
        assert second.stats.cached_tokens >= first.stats.prompt_tokens + first.stats.generated_tokens - 1
        assert second.stats.accepted > 0


def test_python_is_a_small_part_of_a_step() -> None:
    """Far below llama.cpp's share; the exact number is a benchmark's."""
    with localspec.load(TARGET, DRAFTER, ctx_size=1024) as llm:
        stats = llm.chat(QUESTION, max_tokens=64, temperature=0).stats
        assert stats.python_s < 0.1 * stats.generate_s
