"""The chat's input line: editing, history, several lines, completion of commands (prompt_toolkit)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from platformdirs import user_data_path
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import ANSI
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import ColorDepth, Output, create_output

from localspec.cli.chat.slash_commands import COMMANDS
from localspec.cli.terminal.style import DIM, Style
from localspec.files import data_dir

PROMPT = "> "
#: Before the second and later lines of a message.
_CONTINUED = "  "
#: Commands whose argument is completed as a file name.
_FILE_COMMANDS = ("/save ", "/load ", "/image ", "/audio ")
_HISTORY = "chat-history"


def history_path() -> Path:
    """The file of earlier messages: the existing one of an earlier version, else one in the data folder."""
    new = data_dir() / _HISTORY
    older = [user_data_path("localspec") / _HISTORY]  # earlier builds did not read $LOCALSPEC_DATA
    if os.name == "nt":  # and used the roaming folder
        older.append(user_data_path("localspec", appauthor=False, roaming=True) / _HISTORY)
    return next((path for path in (new, *older) if path.is_file()), new)


class _PrivateHistory(FileHistory):
    """A history that only its owner can read. A full disk does not end the chat."""

    def store_string(self, string: str) -> None:
        with suppress(OSError):
            super().store_string(string)
            os.chmod(self.filename, 0o600)


def open_history() -> History:
    """The history file, or a history in memory if the file cannot be written."""
    try:
        file = history_path()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.open("a").close()
    except (OSError, RuntimeError):
        return InMemoryHistory()
    return _PrivateHistory(str(file))


class CommandCompleter(Completer):
    """Completes slash commands, and the file name after those that take one."""

    def __init__(self) -> None:
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        text = document.text_before_cursor
        for command in _FILE_COMMANDS:
            if text.startswith(command):
                name = text[len(command) :]
                yield from self._paths.get_completions(Document(name, len(name)), complete_event)
                return
        if text.startswith("/") and " " not in text:
            for name, entry in COMMANDS.items():
                if name.startswith(text):
                    yield Completion(name, start_position=-len(text), display_meta=entry.help)


def _bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("enter")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.is_cursor_at_the_end and buffer.text.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @bindings.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return bindings


class InputLine:
    """Reads messages from the terminal."""

    def __init__(self, input: Input | None = None, output: Output | None = None) -> None:
        # Where standard output is redirected, the input line is drawn on standard error.
        out = sys.stdout if sys.stdout.isatty() else sys.stderr
        self._style = Style.from_stream(out)
        self._session: PromptSession[str] = PromptSession(
            PROMPT,
            multiline=True,
            prompt_continuation=_CONTINUED,
            history=open_history(),
            completer=CommandCompleter(),
            complete_while_typing=False,
            enable_history_search=False,
            key_bindings=_bindings(),
            color_depth=None if self._style.on else ColorDepth.DEPTH_1_BIT,
            input=input,
            output=output or create_output(stdout=out),
        )
        self._fresh = True

    def read(self) -> str:
        """The next message. Raises EOFError on Ctrl-D, KeyboardInterrupt on Ctrl-C at an empty line.

        Ctrl-C at a typed message drops it.
        """
        while True:
            try:
                text = self._session.prompt(placeholder=self._placeholder())
            except KeyboardInterrupt:
                if not self._session.default_buffer.text:
                    raise
                continue
            self._fresh = False
            return text

    def _placeholder(self) -> ANSI:
        hint = "a message, or /help"
        return ANSI(self._style.paint(hint, DIM)) if self._fresh and self._style.on else ANSI("")
