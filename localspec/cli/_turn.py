"""One turn of a chat: a question goes in, the answer is streamed, and the conversation is left in order.

Invariant: whatever happens (Ctrl-C, an error, a full context), the conversation afterwards ends with an answer, perhaps
a partial one, or is what it was before the question.
"""

from __future__ import annotations

import sys
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from localspec.cli._answer import AnswerPrinter
from localspec.cli._conversation import Conversation
from localspec.cli._interrupt import Stop, listening, silent_keys
from localspec.cli._progress import Progress

if TYPE_CHECKING:
    from localspec.engine import Engine
    from localspec.output import Completion


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


def take_turn(
    engine: Engine, conversation: Conversation, question: str, printer: AnswerPrinter, options: dict[str, Any]
) -> Turn:
    """Ask ``question`` and stream the answer. Ctrl-C ends it early; errors of the engine pass through."""
    turn = Turn()
    conversation.ask(question)
    try:
        with silent_keys(), Progress("Reading", sys.stderr) as bar, listening(lambda: _stopping(bar)) as stop:
            _stream(engine, conversation, turn, printer, options, bar, stop)
    finally:
        printer.end()
        if turn.kept:
            conversation.answer(turn.text)
        else:
            conversation.take_back()
    return turn


def _stopping(bar: Progress) -> None:
    bar.label = "Stopping"


def _stream(
    engine: Engine,
    conversation: Conversation,
    turn: Turn,
    printer: AnswerPrinter,
    options: dict[str, Any],
    bar: Progress,
    stop: Stop,
) -> None:
    def progress(done: int, total: int) -> None:
        stop.check()
        bar.count(done, total)

    chunks = engine.stream_chat(list(conversation.messages), **options, progress=progress)
    with suppress(KeyboardInterrupt), closing(chunks):  # type: ignore[type-var]  # a generator, in fact
        for chunk in chunks:
            bar.end()
            if chunk.channel == "answer":
                turn.parts.append(chunk.text)
            turn.tokens += len(chunk.tokens)
            turn.completion = chunk.completion
            printer.add(chunk)
            stop.check()
