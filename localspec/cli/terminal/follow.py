"""Print an answer while it is generated, and let Ctrl-C end it between two steps."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from localspec.cli.terminal.interrupt import catching_interrupts, silent_keys
from localspec.cli.terminal.progress import ProgressBar

if TYPE_CHECKING:
    from localspec.cli.terminal.answer import AnswerPrinter
    from localspec.generation.result import Chunk, Completion


@dataclass
class PartialAnswer:
    """An answer so far. ``completion`` stays None if Ctrl-C or an error ended it."""

    parts: list[str] = field(default_factory=list)
    tokens: int = 0
    completion: Completion | None = None

    @property
    def text(self) -> str:
        return self.completion.text if self.completion else "".join(self.parts)

    @property
    def begun(self) -> bool:
        """True if there is an answer to keep."""
        return bool(self.completion or self.text)

    @property
    def extra(self) -> dict[str, Any]:
        """The keys of the answer's message beside role and content: tool calls and the thought before them."""
        message = self.completion.message if self.completion else {}
        return {key: value for key, value in message.items() if key not in ("role", "content")}

    def add(self, chunk: Chunk) -> None:
        if chunk.channel == "answer":
            self.parts.append(chunk.text)
        self.tokens += len(chunk.tokens)
        self.completion = chunk.completion


def follow(start: Callable[..., Iterator[Chunk]], answer: PartialAnswer, printer: AnswerPrinter | None) -> None:
    """Run ``start(progress=...)`` to its end or to Ctrl-C, into ``answer`` and ``printer``. Errors pass through."""
    with silent_keys(), ProgressBar("Reading", sys.stderr) as bar:

        def stopping() -> None:
            bar.label = "Stopping"

        with catching_interrupts(stopping) as interrupt, suppress(KeyboardInterrupt):

            def progress(done: int, total: int) -> None:
                interrupt.check()
                bar.count(done, total)

            chunks = start(progress=progress)
            with closing(chunks):  # type: ignore[type-var]  # an iterator by its type, a generator in fact
                for chunk in chunks:
                    answer.add(chunk)
                    if printer:
                        bar.end()
                        printer.add(chunk)
                    interrupt.check()
