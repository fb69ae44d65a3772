"""Follows one answer: prints it as it comes, and lets Ctrl-C end it between two steps.

Invariant of :func:`take_turn`: whatever happens (Ctrl-C, an error, a full context), the conversation afterwards ends
with an answer, perhaps a partial one, or is what it was before the question.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from localspec.cli.chat.transcript import Conversation
from localspec.cli.terminal.answer import AnswerPrinter
from localspec.cli.terminal.interrupt import listening, silent_keys
from localspec.cli.terminal.progress import Progress

if TYPE_CHECKING:
    from localspec.engine import Engine
    from localspec.generation.result import Chunk, Completion


@dataclass
class Turn:
    """What came of a question so far. ``completion`` stays None when Ctrl-C or an error ended the answer."""

    parts: list[str] = field(default_factory=list)
    tokens: int = 0
    completion: Completion | None = None

    @property
    def text(self) -> str:
        return self.completion.text if self.completion else "".join(self.parts)

    @property
    def kept(self) -> bool:
        """Whether there is an answer to keep; without one the question is taken back."""
        return bool(self.completion or self.text)

    @property
    def more(self) -> dict[str, Any]:
        """What the answer's message has beside its text: tool calls."""
        message = self.completion.message if self.completion else {}
        return {key: value for key, value in message.items() if key not in ("role", "content")}

    def add(self, chunk: Chunk) -> None:
        if chunk.channel == "answer":
            self.parts.append(chunk.text)
        self.tokens += len(chunk.tokens)
        self.completion = chunk.completion


def follow(start: Callable[..., Iterator[Chunk]], turn: Turn, printer: AnswerPrinter | None) -> None:
    """Run ``start(progress=...)`` to its end or to Ctrl-C, into ``turn`` and ``printer``. Errors pass through."""
    with silent_keys(), Progress("Reading", sys.stderr) as bar:

        def stopping() -> None:
            bar.label = "Stopping"

        with listening(stopping) as stop, suppress(KeyboardInterrupt):

            def progress(done: int, total: int) -> None:
                stop.check()
                bar.count(done, total)

            chunks = start(progress=progress)
            with closing(chunks):  # type: ignore[type-var]  # an iterator by its type, a generator in fact
                for chunk in chunks:
                    turn.add(chunk)
                    if printer:
                        bar.end()
                        printer.add(chunk)
                    stop.check()


def take_turn(engine: Engine, conversation: Conversation, printer: AnswerPrinter, options: dict[str, Any]) -> Turn:
    """Stream the answer to the last message into the conversation, or take that message back."""
    turn = Turn()
    try:
        follow(partial(engine.stream_chat, list(conversation.messages), **options), turn, printer)
    finally:
        printer.end()
        if turn.kept:
            conversation.answer(turn.text, **turn.more)
        else:
            conversation.take_back()
    return turn
