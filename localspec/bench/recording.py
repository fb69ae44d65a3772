"""Records traces with a loaded engine: plain answers, and what its models would have guessed along them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from localspec.bench.paired import Ask, answer, prompt_tokens
from localspec.bench.prompts import BenchPrompt
from localspec.bench.trace import Recorder, Trace

if TYPE_CHECKING:
    from localspec.engine import Engine


def traces(engine: Engine, prompts: Sequence[BenchPrompt], ask: Ask) -> Iterator[Trace | None]:
    """A trace for each prompt, or None where the answer is a single token. The engine's control is put back."""
    recorder = Recorder()
    before = engine.control, engine.drafting
    engine.control, engine.drafting = recorder, True
    try:
        for prompt in prompts:
            done, _ = answer(engine, prompt.messages, ask)
            known = prompt_tokens(engine, prompt.messages, ask)
            yield recorder.trace(prompt.id, prompt.category, known, done.tokens) if len(done.tokens) > 1 else None
    finally:
        engine.control, engine.drafting = before
