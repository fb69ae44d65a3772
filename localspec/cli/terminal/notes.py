"""What the chat says beside the answers, on standard error and fitted to the terminal."""

from __future__ import annotations

import textwrap
from typing import TextIO

from localspec.cli.terminal.style import Style, columns


class Notes:
    """Dimmed notes and plain errors, wrapped at the width there is now."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._style = Style.of(out)

    def say(self, *lines: str) -> None:
        """Notes; each line is wrapped by itself, and keeps its indentation."""
        for line in lines:
            self._write(self._style.dim(self._fit(line)))

    def error(self, message: str) -> None:
        """What went wrong, as the rest of the program says it."""
        head, newline, last = message.rpartition("\n")
        self._write(f"{head}{newline}{self._fit(f'localspec: {last}')}")

    def pairs(self, rows: list[tuple[str, str]]) -> None:
        """Two columns; the second one is wrapped under itself."""
        left = max(len(name) for name, _ in rows) + 2
        width = max(columns(self._out), left + 16) if self._out.isatty() else 100
        for name, text in rows:
            first, *rest = textwrap.wrap(text, width - left) or [""]
            self._write(self._style.dim("\n".join([f"{name:<{left}}{first}", *(" " * left + r for r in rest)])))

    def blank(self) -> None:
        self._write("")

    def _fit(self, line: str) -> str:
        if not self._out.isatty():
            return line
        indent = " " * (len(line) - len(line.lstrip()))
        return textwrap.fill(
            line,
            max(columns(self._out), 20),
            subsequent_indent=indent,
            replace_whitespace=False,
            drop_whitespace=True,
            break_on_hyphens=False,
        )

    def _write(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()
