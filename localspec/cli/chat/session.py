"""A chat session: engine, conversation and switches, and what happens to a line that the user gives.

Knows nothing about where lines come from; :mod:`localspec.cli.commands.chat` reads them from a terminal or a pipe.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from localspec.cli.chat.transcript import Conversation
from localspec.cli.chat.turn import Turn, take_turn
from localspec.cli.errors import debugging, describe
from localspec.cli.options.shared import AnswerOptions
from localspec.cli.options.tools import shown_call
from localspec.cli.report import answer_line
from localspec.cli.terminal.answer import AnswerPrinter, WrappedWriter
from localspec.cli.terminal.notes import Notes
from localspec.cli.terminal.style import Style
from localspec.errors import LocalspecError, PromptTooLongError, UsageError
from localspec.generation.stats import Stats

if TYPE_CHECKING:
    from localspec.engine import Engine


@dataclass
class Switches:
    """What can be switched while chatting."""

    think: bool = False
    hide_thinking: bool = False
    tint: bool = False


@dataclass
class Session:
    """One chat. ``interactive``: a person sits at a terminal; otherwise only answers are printed."""

    engine: Engine
    conversation: Conversation
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

    @property
    def colour(self) -> bool:
        return Style.of(sys.stdout).on

    def ask(self, question: str) -> None:
        """A turn, and what there is to tell about it."""
        self.conversation.ask(question)
        self._answer()

    def result(self, text: str) -> None:
        """What came of the first tool call without a result; when it was the last one, the model goes on."""
        calls = self.conversation.open_calls()
        if not calls:
            raise UsageError("there is no tool call to answer.")
        self.conversation.result(calls[0], text)
        if len(calls) == 1:
            self._answer()

    def _answer(self) -> None:
        turn = take_turn(self.engine, self.conversation, self._printer(), self._options())
        done = turn.completion
        if done is None:
            self._stopped(turn)
            return
        self.turns.append(done.stats)
        self.total.add(done.stats)
        if done.notice:
            self.notes.error(done.notice)
        for call in done.tool_calls:
            self.notes.say(shown_call(call))
        if done.tool_calls and self.interactive:
            self.notes.say("/result TEXT tells the model what came of it.")
        if self.interactive or self.stats:
            self.notes.say(answer_line(done))

    def _stopped(self, turn: Turn) -> None:
        if not self.interactive:
            raise KeyboardInterrupt
        if turn.kept:
            self.notes.say(f"Stopped after {turn.tokens} tokens; what there is stays in the conversation.")
        else:
            self.notes.say("Stopped before the answer began; the message was taken back.")

    def guard(self, action: Callable[[], None]) -> None:
        try:
            action()
        except PromptTooLongError as error:
            self.failed = True
            self.notes.error(f"{error} The message was taken back; /clear starts afresh.")
        except LocalspecError as error:
            self.failed = True
            self.notes.error(describe(error, debugging()))
        except Exception as error:
            if not self.interactive:
                raise
            self.notes.error(describe(error, debugging()))

    def _options(self) -> dict[str, Any]:
        tools = {"tools": self.tools} if self.tools else {}
        return {**self.answer.engine(), "thinking": self.switches.think, **tools}

    def _printer(self) -> AnswerPrinter:
        out = sys.stdout
        live = self.interactive and out.isatty()
        style = Style.of(out)
        return AnswerPrinter(
            WrappedWriter(out, style, wrap=live),
            tint=self.switches.tint and style.on,
            show_thought=live and not self.switches.hide_thinking,
        )
