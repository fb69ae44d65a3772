"""An answer does not depend on the ones before it: turns of a continued engine against those of a fresh one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import localspec
from localspec.engine import Engine

pytestmark = pytest.mark.integration
FOLDER = Path(os.environ.get("LOCALSPEC_EVAL_DIR", "."))
TOPICS = (
    "sorting words by length", "counting vowels", "reading a CSV file", "a stack", "prime numbers",
    "the shortest path in a grid", "a bank account", "reversing a linked list", "parsing a date", "merging two lists",
    "a rate limiter", "a word counter", "a temperature table", "matrix multiplication", "a to-do list",
    "binary search", "a URL shortener", "a dice game", "a text wrapper", "an LRU cache",
)  # fmt: skip
SYSTEM = (
    "You are a careful programmer. Answer briefly, with short code and one sentence that explains it. Prefer the "
    "standard library. Name things plainly. Do not repeat the question. Write for readers who know the language, not "
    "the problem. Check the ends of every loop and the empty case. Where two ways are as good, take the one with fewer "
    "lines, and say in a few words why the other was left out. Never print from a function that returns a value."
)
FOLLOW_UPS = ("Now add a test for it.", "Explain the second line.", "Make it handle an empty input.", "How fast is it?")


@pytest.fixture(scope="module", params=["q4_k_m", "q4_0"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    path = FOLDER / f"qwen2.5-coder-0.5b-instruct-{request.param}.gguf"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    with localspec.load(path, "none", threads=2, ctx_size=1024) as loaded:
        yield loaded


@pytest.mark.parametrize("number", range(20))
def test_second_turn_is_that_of_a_fresh_engine(engine: Engine, number: int) -> None:
    """Its prompt holds generated tokens, and begins with the system prompt of the conversation before."""
    options: dict[str, Any] = {"max_tokens": 40, "temperature": 0.8, "seed": number}
    messages: list[Any] = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": f"Write a Python function for {TOPICS[number]}."},
    ]
    first = engine.chat(messages, **options)
    messages += [
        {"role": "assistant", "content": first.text},
        {"role": "user", "content": FOLLOW_UPS[number % len(FOLLOW_UPS)]},
    ]
    prompt = engine.prompt_tokens(messages)
    continued = engine.chat(messages, **options)
    assert continued.stats.cached_tokens > 0
    engine.forget()
    assert engine.prompt_tokens(messages) == prompt
    assert engine.chat(messages, **options).tokens == continued.tokens
