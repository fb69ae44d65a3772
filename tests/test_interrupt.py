"""The law of interruption: a KeyboardInterrupt at any line of the package leaves an engine that works as a new one."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import localspec
from localspec.draft.base import Drafter
from localspec.draft.model import ModelDrafter
from localspec.draft.ngram import NgramDrafter
from localspec.engine import Engine
from localspec.models.resolve import TINY_TARGET
from localspec.sampling import Row
from localspec.testing import Logits, ScriptedContext, ScriptedVocabulary, chain_logits, scripted_engine
from tests.helpers.support import N_VOCAB, load_fixed

PACKAGE = str(Path(localspec.__file__).parent)
Line = tuple[str, int]


def traced(do: Callable[[], Any], at: tuple[Line, int] | None = None, files: Sequence[str] = ()) -> Counter[Line]:
    """Count the runs of each line of the package in ``do``; raise KeyboardInterrupt before the given run of one."""
    count: Counter[Line] = Counter()

    def local(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            line = (frame.f_code.co_filename, frame.f_lineno)
            count[line] += 1
            if at == (line, count[line]):
                raise KeyboardInterrupt
        return local

    def start(frame: FrameType, event: str, _: Any) -> Any:
        name = frame.f_code.co_filename
        return local if name.startswith(PACKAGE) and (not files or name.endswith(tuple(files))) else None

    before = sys.gettrace()
    sys.settrace(start)
    try:
        do()
    finally:
        sys.settrace(before)
    return count


Run = Callable[[str], tuple[int, ...]]
OPTIONS: dict[str, Any] = {"temperature": 0.8, "seed": 3, "max_tokens": 5}


def survives_interrupts(run: Run, first: str, second: str, files: Sequence[str] = ()) -> None:
    """At the first and the last time that each line runs: what comes after is what would have come without."""
    expected = {prompt: run(prompt) for prompt in (first, second)}
    count = traced(lambda: run(first), files=files)
    assert len(count) > 30
    for line in sorted(count):
        for occurrence in {1, count[line]}:
            run(second)
            try:
                traced(lambda: run(first), (line, occurrence), files)
            except KeyboardInterrupt:
                pass
            else:
                continue  # a cache that is fuller than the first time does not come here as often
            where = f"after an interrupt at {Path(line[0]).name}:{line[1]}, time {occurrence}"
            for prompt in (second, first):
                assert run(prompt) == expected[prompt], where


def generate(engine: Engine) -> Run:
    return lambda prompt: engine.generate(prompt, **OPTIONS).tokens


def converse(engine: Engine) -> Run:
    """A chat of two turns that begins with the prompt."""

    def run(prompt: str) -> tuple[int, ...]:
        messages = [{"role": "user", "content": prompt}]
        first = engine.chat(messages, **{**OPTIONS, "max_tokens": 3})
        messages += [{"role": "assistant", "content": first.text}, {"role": "user", "content": "And?"}]
        return (*first.tokens, *engine.chat(messages, **{**OPTIONS, "max_tokens": 3}).tokens)

    return run


def remembered(logits: Logits) -> Logits:
    """The same, computed once for each text."""
    return lru_cache(maxsize=None)(logits)


def scripted_drafters(kind: str) -> list[Drafter]:
    if kind == "ngram":
        return [NgramDrafter(min_match=1)]
    return [ModelDrafter(ScriptedContext(remembered(chain_logits(N_VOCAB, 5)), N_VOCAB), 512, N_VOCAB)]


@pytest.mark.parametrize("kind", ["ngram", "model"])
def test_interrupt_at_any_line_of_the_loop(kind: str) -> None:
    """Engine, loop, sampling and drafters, on the scripted backend."""
    logits = remembered(chain_logits(N_VOCAB, 5, scale=3.0))
    with scripted_engine(logits, scripted_drafters(kind), vocabulary=ScriptedVocabulary(N_VOCAB)) as engine:
        survives_interrupts(generate(engine), "once upon a time, once upon", "once upon us and our dog")


def test_interrupt_at_any_line_of_a_chat() -> None:
    """Templates, conversation and channels as well, in the first turn or the second."""
    chain = remembered(chain_logits(128, 6, scale=3.0))

    def ascii_only(tokens: tuple[int, ...]) -> Row:
        return np.concatenate([chain(tokens), np.full(128, -100, np.float32)])

    with scripted_engine(ascii_only, [NgramDrafter(min_match=1)]) as engine:
        files = ("conversation.py", "template.py", "thinking.py", "stream.py", "engine.py")
        survives_interrupts(converse(engine), "Once upon a time", "Once upon us", files)


@pytest.mark.parametrize("draft", ["none", "auto", "model"])
def test_interrupt_at_any_line_of_the_backend(draft: str, tmp_path: Path) -> None:
    """The seam to llama.cpp and the loop around it, on the built-in pair."""
    name = draft
    if draft == "model":
        name = str(tmp_path / "copy.gguf")
        Path(name).write_bytes(TINY_TARGET.read_bytes())
    with load_fixed("tiny", name, ctx_size=256, draft_max=3) as engine:
        files = ("binding.py", "context.py", "loop.py", "model.py", "mtp.py")
        survives_interrupts(generate(engine), "Once upon a time", "Once upon us and our little dog", files)
