"""Run each prompt with and without drafting, one right after the other, on the same engine.

A disturbance of the machine then affects both runs of a pair. Their order alternates, and no run reuses the cache.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

from localspec.bench.prompts import BenchPrompt
from localspec.errors import InputError, TemplateError

if TYPE_CHECKING:
    from localspec.engine import Engine
    from localspec.generation.options import Options
    from localspec.generation.result import Completion

Mode = Literal["plain", "auto"]
#: Answered before the first measurement, to load pages, start threads and build graphs. In no prompt file, so that
#: a server's n-gram table cannot draft an answer from it.
_WARM_UP = ({"role": "user", "content": "Count from one to twenty in words, then count back from twenty to one."},)
#: Tokens of the warm-up: some passes of each mode, in little time.
_WARM_UP_TOKENS = 16


@dataclass(frozen=True)
class BenchOptions:
    """Options of every answer.

    ``raw``: send the messages' texts without the chat template. ``check``: called at every step; it may raise to end
    the run.
    """

    max_tokens: int = 128
    temperature: float = 0.0
    seed: int = 0
    raw: bool = False
    check: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Measurement:
    """Times and counts of one answer.

    ``generated`` counts the end token. ``generate_s`` is the time from the first token to the last; ``target_s``,
    ``draft_s`` and ``python_s`` are parts of it. ``first_s`` is the time to the first token. ``digest`` identifies the
    tokens.
    """

    generated: int
    generate_s: float
    first_s: float
    prompt_tokens: int
    prompt_s: float
    target_s: float
    draft_s: float
    python_s: float
    steps: int
    drafted_steps: int
    proposed: int
    accepted: int
    digest: str

    @property
    def timed(self) -> int:
        """Tokens generated within ``generate_s``: all but the first, which the prefill gives."""
        return max(0, self.generated - 1)

    @classmethod
    def from_completion(cls, done: Completion, first_s: float) -> Measurement:
        """Take times and counts from a completion."""
        stats = done.stats
        return cls(
            generated=len(done.tokens) + (done.finish_reason != "length"),
            generate_s=stats.generate_s,
            first_s=first_s,
            prompt_tokens=stats.prompt_tokens,
            prompt_s=stats.prompt_s,
            target_s=stats.target_s,
            draft_s=stats.draft_s,
            python_s=stats.python_s,
            steps=stats.steps,
            drafted_steps=stats.drafted_steps,
            proposed=stats.proposed,
            accepted=stats.accepted,
            digest=token_digest(done.tokens),
        )


@dataclass(frozen=True)
class PairedRun:
    """Both measurements of a prompt; ``turn`` numbers the passes over the prompts."""

    prompt: str
    category: str
    turn: int
    plain: Measurement
    auto: Measurement

    @property
    def same(self) -> bool:
        """True if both answers have the same tokens."""
        return self.plain.digest == self.auto.digest

    def to_dict(self) -> dict[str, Any]:
        """Return values for JSON."""
        return {**asdict(self), "same": self.same}


def token_digest(tokens: Iterable[int]) -> str:
    """Hash token ids to 12 hexadecimal digits."""
    return hashlib.sha256(json.dumps(list(tokens)).encode()).hexdigest()[:12]


def prompt_tokens(engine: Engine, messages: Sequence[dict[str, Any]], options: BenchOptions) -> list[int]:
    """Return the prompt's token ids as :func:`answer` decodes them."""
    if options.raw:
        return engine.vocabulary.tokenize(_raw_text(messages), add_special=True)
    return engine.prompt_tokens(list(messages))


def _raw_text(messages: Sequence[dict[str, Any]]) -> str:
    return "\n\n".join(message["content"] for message in messages)


def check_prompts(engine: Engine, prompts: Sequence[BenchPrompt], options: BenchOptions) -> None:
    """Raise :class:`InputError` for the first prompt that the engine cannot answer."""
    for prompt in prompts:
        try:
            left = engine.n_ctx - len(prompt_tokens(engine, prompt.messages, options))
        except (InputError, TemplateError) as error:
            raise InputError(f"the prompt {prompt.id}: {error}") from None
        if left < options.max_tokens:
            raise InputError(
                f"the prompt {prompt.id} leaves room for {max(0, left)} of {options.max_tokens} tokens in a context of "
                f"{engine.n_ctx}; set a larger --ctx-size, or a smaller -n."
            )


def answer(engine: Engine, messages: Sequence[dict[str, Any]], bench: BenchOptions) -> tuple[Completion, float]:
    """Return an answer made from an empty cache, and the seconds to its first token."""
    engine.forget()
    done: Completion | None = None
    first: float | None = None
    began = perf_counter()
    options: Options = {
        "max_tokens": bench.max_tokens, "temperature": bench.temperature, "seed": bench.seed,
        "progress": lambda *_: bench.check(),
    }  # fmt: skip
    chunks = (
        engine.stream(_raw_text(messages), **options) if bench.raw else engine.stream_chat(list(messages), **options)
    )
    with closing(chunks):
        for chunk in chunks:
            if first is None:
                first = perf_counter() - began
            done = chunk.completion
            if done is None:
                bench.check()
    assert done is not None
    assert first is not None
    return done, first


def measure(engine: Engine, prompt: BenchPrompt, mode: Mode, options: BenchOptions) -> Measurement:
    """Measure one answer. Restores ``engine.drafting``."""
    before = engine.drafting
    engine.drafting = mode == "auto"
    try:
        return Measurement.from_completion(*answer(engine, prompt.messages, options))
    finally:
        engine.drafting = before


def warm_up(engine: Engine, options: BenchOptions) -> None:
    """Make one short answer in each mode."""
    short = replace(options, max_tokens=min(options.max_tokens, _WARM_UP_TOKENS))
    for mode in ("plain", "auto"):
        measure(engine, BenchPrompt("", "", _WARM_UP), mode, short)


def paired_runs(
    engine: Engine, prompts: Sequence[BenchPrompt], repeat: int, options: BenchOptions
) -> Iterator[PairedRun]:
    """Yield a pair for each prompt in each of ``repeat`` passes. The mode that runs first alternates."""
    for turn in range(repeat):
        for i, prompt in enumerate(prompts):
            modes: tuple[Mode, Mode] = ("plain", "auto") if (i + turn) % 2 == 0 else ("auto", "plain")
            found = {mode: measure(engine, prompt, mode, options) for mode in modes}
            yield PairedRun(prompt.id, prompt.category, turn, found["plain"], found["auto"])
