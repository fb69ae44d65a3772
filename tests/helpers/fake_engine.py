"""An engine whose answers a test scripts, for the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localspec.engine import ModelInfo
from localspec.errors import InputError
from localspec.generation.logprobs import TokenLogprobs
from localspec.generation.result import Chunk, Completion
from localspec.generation.stats import Stats
from localspec.testing import ScriptedVocabulary
from localspec.types import Channel

TINY = ModelInfo("tiny", Path("tiny.gguf"), "gemma4", "tiny", 1, 1, 4096, 100)


@dataclass
class Reply:
    """The scripted answer to one prompt: words (every second one drafted), or an error to raise after them."""

    text: str = "Hello there."
    thought: str = ""
    error: BaseException | None = None
    before_word: Callable[[int], None] = lambda number: None
    notice: str | None = None
    finish_reason: Any = "stop"
    tool_calls: tuple[Any, ...] = ()


@dataclass
class FakeEngine:
    """Has the engine's verbs; keeps the arguments of its calls."""

    replies: list[Reply] = field(default_factory=list)
    notices: tuple[str, ...] = ()
    drafters: tuple[str, ...] = ("mtp",)
    drafting: bool = True
    media: frozenset[str] = frozenset({"picture", "sound"})
    exactness: str = "exact"
    n_ctx: int = 4096
    asked: list[Any] = field(default_factory=list)
    options: list[dict[str, Any]] = field(default_factory=list)
    measured: list[tuple[float | None, bool]] = field(default_factory=list)
    """The waits for the measurement: how long, and whether for all of it."""
    closed: bool = False
    model: ModelInfo = TINY
    vocabulary: ScriptedVocabulary = field(default_factory=lambda: ScriptedVocabulary(256))
    cached: str | None = None
    """What its cache holds, if anything; a file of that content is a saved one."""

    def measure(self, seconds: float | None = None, *, whole: bool = True) -> bool:
        self.measured.append((seconds, whole))
        return True

    def save_state(self, path: Path) -> int:
        if self.cached is None:
            raise InputError("nothing is cached yet.")
        return path.write_text(self.cached)

    def load_state(self, path: Path) -> int:
        if not path.read_text().startswith("cache"):
            raise InputError(f"{path} is damaged.")
        self.cached = path.read_text()
        return 1

    def __enter__(self) -> FakeEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True

    def _chunks(self, prompt: Any, options: dict[str, Any]) -> Iterator[Chunk]:
        self.asked.append(prompt)
        self.options.append(options)
        reply = self.replies.pop(0) if self.replies else Reply()
        options["progress"](0, 10)
        options["progress"](10, 10)
        yield from self._words(reply.thought, "thought", reply)
        yield from self._words(reply.text, "answer", reply)
        if reply.error:
            raise reply.error
        words = len(reply.text.split())
        stats = Stats(prompt_tokens=10, cached_tokens=4, generated_tokens=words, generate_s=0.5, target_s=0.4)
        stats.record(("mtp",) * 3, 2)
        done = Completion(
            reply.text,
            tuple(range(words)),
            reply.finish_reason,
            options["seed"] if options["seed"] is not None else 11,
            "exact",
            stats,
            reply.thought,
            reply.notice,
            _logprobs(words) if options.get("logprobs") is not None else None,
            reply.tool_calls,
        )
        yield Chunk("", (), (), (), completion=done)

    def _words(self, text: str, channel: Channel, reply: Reply) -> Iterator[Chunk]:
        for number, word in enumerate(text.split(" ") if text else []):
            reply.before_word(number)
            piece = word if number == 0 else f" {word}"
            source = "drafted" if number % 2 else "target"
            yield Chunk(piece, (number,), (source,), (piece,), channel)  # type: ignore[arg-type]

    def stream(self, prompt: str, **options: Any) -> Iterator[Chunk]:
        return self._chunks(prompt, options)

    def stream_chat(self, messages: list[dict[str, str]], **options: Any) -> Iterator[Chunk]:
        return self._chunks(messages, options)

    def generate(self, prompt: str, **options: Any) -> Completion:
        return next(c.completion for c in self._chunks(prompt, options) if c.completion)

    def chat(self, messages: list[dict[str, str]], **options: Any) -> Completion:
        return next(c.completion for c in self._chunks(messages, options) if c.completion)


def _logprobs(words: int) -> tuple[TokenLogprobs, ...]:
    return tuple(TokenLogprobs(n, -0.5, ((n, -0.5), (200, -2.0))) for n in range(words))
