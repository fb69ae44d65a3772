"""Runs with and without drafting, paired: the same prompt, one right after the other, on the same loaded engine.

What disturbs a machine disturbs both runs of a pair. Their order changes from pair to pair, and nothing is reused from
the answer before.
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
#: Answered before anything is measured: pages in, threads started, graphs built. It is in no prompt file.
_WARM_UP = ({"role": "user", "content": "Count from one to twenty in words, then count back from twenty to one."},)
_WARM_UP_TOKENS = 16


@dataclass(frozen=True)
class Ask:
    """How answers are made; ``check`` is called at every step and may raise to end them.

    ``raw``: the messages' texts go without the chat template.
    """

    max_tokens: int = 128
    temperature: float = 0.0
    seed: int = 0
    raw: bool = False
    check: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Run:
    """One answer. ``generated`` counts its end token; ``generate_s`` goes from the first token to the last.

    ``first_s``: seconds to the first token. ``target_s``, ``draft_s`` and ``python_s`` are parts of ``generate_s``.
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
        """Tokens that ``generate_s`` was spent on: all but the first, which comes with the prompt."""
        return max(0, self.generated - 1)


@dataclass(frozen=True)
class Pair:
    """Both answers to a prompt in one pass over the prompts (``turn``)."""

    prompt: str
    category: str
    turn: int
    plain: Run
    auto: Run

    @property
    def same(self) -> bool:
        """Whether both answers have the very same tokens."""
        return self.plain.digest == self.auto.digest

    def record(self) -> dict[str, Any]:
        """What JSON can say."""
        return {**asdict(self), "same": self.same}


def run_of(done: Completion, first_s: float) -> Run:
    """A completion as a run."""
    stats = done.stats
    return Run(
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
        digest=digest(done.tokens),
    )


def digest(tokens: Iterable[int]) -> str:
    """A short name of a list of token ids."""
    return hashlib.sha256(json.dumps(list(tokens)).encode()).hexdigest()[:12]


def prompt_tokens(engine: Engine, messages: Sequence[dict[str, Any]], ask: Ask) -> list[int]:
    """The ids that :func:`answer` decodes first."""
    if ask.raw:
        return engine.vocabulary.tokenize(_raw(messages), add_special=True)
    return engine.prompt_tokens(list(messages))


def _raw(messages: Sequence[dict[str, Any]]) -> str:
    return "\n\n".join(message["content"] for message in messages)


def check_prompts(engine: Engine, prompts: Sequence[BenchPrompt], ask: Ask) -> None:
    """Raise :class:`InputError` for a prompt that this engine cannot answer, before any time is spent on others."""
    for prompt in prompts:
        try:
            room = engine.n_ctx - len(prompt_tokens(engine, prompt.messages, ask))
        except (InputError, TemplateError) as error:
            raise InputError(f"the prompt {prompt.id}: {error}") from None
        if room < ask.max_tokens:
            raise InputError(
                f"the prompt {prompt.id} leaves room for {max(0, room)} of {ask.max_tokens} tokens in a context of "
                f"{engine.n_ctx}; set a larger --ctx-size, or a smaller -n."
            )


def answer(engine: Engine, messages: Sequence[dict[str, Any]], ask: Ask) -> tuple[Completion, float]:
    """An answer that reuses nothing, and the seconds to its first token."""
    engine.forget()
    done: Completion | None = None
    first: float | None = None
    began = perf_counter()
    options: Options = {
        "max_tokens": ask.max_tokens, "temperature": ask.temperature, "seed": ask.seed,
        "progress": lambda *_: ask.check(),
    }  # fmt: skip
    chunks = engine.stream(_raw(messages), **options) if ask.raw else engine.stream_chat(list(messages), **options)
    with closing(chunks):  # type: ignore[type-var]  # an iterator by its type, a generator in fact
        for chunk in chunks:
            if first is None:
                first = perf_counter() - began
            done = chunk.completion
            if done is None:
                ask.check()
    assert done is not None
    assert first is not None
    return done, first


def measure(engine: Engine, prompt: BenchPrompt, mode: Mode, ask: Ask) -> Run:
    """One run; whether the engine drafts is left as it was."""
    before = engine.drafting
    engine.drafting = mode == "auto"
    try:
        return run_of(*answer(engine, prompt.messages, ask))
    finally:
        engine.drafting = before


def warm_up(engine: Engine, ask: Ask) -> None:
    """One short answer in each mode."""
    short = replace(ask, max_tokens=min(ask.max_tokens, _WARM_UP_TOKENS))
    for mode in ("plain", "auto"):
        measure(engine, BenchPrompt("", "", _WARM_UP), mode, short)


def pairs(engine: Engine, prompts: Sequence[BenchPrompt], repeat: int, ask: Ask) -> Iterator[Pair]:
    """``repeat`` passes over the prompts, a pair for each prompt; which mode goes first changes every time."""
    for turn in range(repeat):
        for i, prompt in enumerate(prompts):
            modes: tuple[Mode, Mode] = ("plain", "auto") if (i + turn) % 2 == 0 else ("auto", "plain")
            found = {mode: measure(engine, prompt, mode, ask) for mode in modes}
            yield Pair(prompt.id, prompt.category, turn, found["plain"], found["auto"])
