"""A chat session: the engine, the transcript and the switches, and one turn at a time.

Lines come from :mod:`localspec.cli.commands.chat`, which reads them from a terminal or a pipe.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from localspec.cli.chat.transcript import Transcript
from localspec.cli.errors import debugging, print_error
from localspec.cli.options.answer import AnswerOptions
from localspec.cli.terminal.answer import AnswerPrinter, WrappedWriter
from localspec.cli.terminal.answer_stats import answer_line, call_line
from localspec.cli.terminal.follow import PartialAnswer, follow
from localspec.cli.terminal.notes import Notes
from localspec.cli.terminal.style import Style
from localspec.cli.terminal.units import plural
from localspec.errors import LocalspecError, PromptTooLongError, UsageError
from localspec.generation.stats import Stats

if TYPE_CHECKING:
    from localspec.engine import Engine
    from localspec.media.source import Media


@dataclass
class Switches:
    """Options that can be switched during a chat."""

    think: bool = False
    hide_thinking: bool = False
    tint: bool = False
    trim_when_full: bool = False


@dataclass
class Session:
    """One chat. ``interactive``: a person types at a terminal; otherwise only answers are printed."""

    engine: Engine
    transcript: Transcript
    answer: AnswerOptions
    switches: Switches
    notes: Notes
    interactive: bool
    stats: bool = False
    tools: list[dict[str, Any]] = field(default_factory=list)
    turns: list[Stats] = field(default_factory=list)
    total: Stats = field(default_factory=Stats)
    failed: bool = False
    ended: bool = False
    #: Pictures and sounds of the next message.
    attached: list[Media] = field(default_factory=list)

    @property
    def colour(self) -> bool:
        return Style.from_stream(sys.stdout).on

    def attach(self, media: Media) -> None:
        """Keep a picture or sound for the next message. Raises :class:`UsageError` for a model that reads none."""
        if media.kind not in self.engine.media:
            raise UsageError(f"{self.engine.model.name} reads no {media.kind}s; start the chat with a model that does.")
        self.attached.append(media)
        self.notes.show(f"{media.name} goes with your next message.")

    def ask(self, question: str) -> None:
        """Answer a question, with what is attached. With ``trim_when_full`` the oldest turns make room for it."""
        media, self.attached = self.attached, []
        while True:
            self.transcript.ask(question, media)
            try:
                self._answer()
            except PromptTooLongError:
                dropped = self.transcript.trim() if self.switches.trim_when_full else 0
                if not dropped:
                    raise
                self.notes.show(f"The context is full; dropped {plural(dropped, 'oldest turn')}.")
            else:
                return

    def result(self, text: str) -> None:
        """Add the result of the first open tool call; the last result is answered."""
        calls = self.transcript.open_calls()
        if not calls:
            raise UsageError("there is no tool call to answer.")
        self.transcript.result(calls[0], text)
        if len(calls) == 1:
            self._answer()

    def go_on(self) -> None:
        """Continue the last answer."""
        if not self.transcript.ends_with_text:
            raise UsageError("there is no answer to continue.")
        try:
            self._answer(continued=True)
        except PromptTooLongError as error:
            raise UsageError(f"{error} /trim drops the oldest turns.") from None

    def guard(self, action: Callable[[], None]) -> None:
        """Run ``action`` and print its error, so that the chat goes on."""
        try:
            action()
        except PromptTooLongError as error:
            self.failed = True
            self.notes.error(f"{error} The message was taken back; /trim drops the oldest turns, /clear all.")
        except Exception as error:
            self.failed = True
            if not self.interactive and not isinstance(error, LocalspecError):
                raise
            print_error(error, debugging(), self.notes)

    def _answer(self, *, continued: bool = False) -> None:
        """Stream the answer to the last message, or the rest of it, into the transcript, and print notes about it."""
        answer = self._stream(continued=continued)
        done = answer.completion
        if done is None:
            self._stopped(answer, continued=continued)
            return
        self.turns.append(done.stats)
        self.total.add(done.stats)
        if done.notice:
            self.notes.error(done.notice)
        for call in done.tool_calls:
            self.notes.show(call_line(call))
        if done.tool_calls and self.interactive:
            self.notes.show("/result TEXT gives the model the result.")
        if self.interactive or self.stats:
            self.notes.show(answer_line(done))

    def _stream(self, *, continued: bool) -> PartialAnswer:
        """Stream the answer, whole or partial, into the transcript.

        After an error or Ctrl-C the transcript ends with the partial answer, or without the question if there is none.
        """
        answer, printer = PartialAnswer(), self._printer()
        keywords = {**self._keywords(), **({"continue_final": True} if continued else {})}
        start = partial(self.engine.stream_chat, list(self.transcript.messages), **keywords)
        try:
            follow(start, answer, printer)
        finally:
            printer.end()
            if continued:
                self.transcript.lengthen(answer.text, **answer.extra)
            elif answer.begun:
                self.transcript.answer(answer.text, **answer.extra)
            else:
                self.transcript.take_back()
        return answer

    def _stopped(self, answer: PartialAnswer, *, continued: bool) -> None:
        if not self.interactive:
            raise KeyboardInterrupt
        if answer.begun:
            self.notes.show(f"Stopped after {answer.tokens} tokens; the partial answer stays in the conversation.")
        elif continued:
            self.notes.show("Stopped before the answer went on.")
        else:
            self.notes.show("Stopped before the answer began; the message was taken back.")

    def _keywords(self) -> dict[str, Any]:
        tools = {"tools": self.tools} if self.tools else {}
        return {**self.answer.keywords(), "thinking": self.switches.think, **tools}

    def _printer(self) -> AnswerPrinter:
        out = sys.stdout
        live = self.interactive and out.isatty()
        style = Style.from_stream(out)
        return AnswerPrinter(
            WrappedWriter(out, style, wrap=live),
            tint=self.switches.tint and style.on,
            show_thought=live and not self.switches.hide_thinking,
        )
