"""Record traces with a loaded engine: plain answers, and the guesses of its models along them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from localspec.bench.paired import BenchOptions, answer, prompt_tokens
from localspec.bench.prompts import BenchPrompt
from localspec.bench.trace import Recorder, Trace

if TYPE_CHECKING:
    from localspec.engine import Engine


def traces(engine: Engine, prompts: Sequence[BenchPrompt], options: BenchOptions) -> Iterator[Trace | None]:
    """Yield a trace for each prompt, or None for an answer of one token. Restores the engine's control."""
    recorder = Recorder()
    before = engine.control, engine.drafting
    engine.control, engine.drafting = recorder, True
    try:
        for prompt in prompts:
            done, _ = answer(engine, prompt.messages, options)
            known = prompt_tokens(engine, prompt.messages, options)
            yield recorder.trace(prompt.id, prompt.category, known, done.tokens) if len(done.tokens) > 1 else None
    finally:
        engine.control, engine.drafting = before
