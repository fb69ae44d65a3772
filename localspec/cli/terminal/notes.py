"""Notices and errors on standard error, fitted to the terminal."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TextIO

from localspec.cli.terminal.style import Style, columns
from localspec.cli.terminal.wrap import two_columns, wrap

#: Width of two columns where there is no terminal.
_DEFAULT_WIDTH = 100


def notice(message: str) -> None:
    """Print ``localspec: message`` on standard error."""
    Notes(sys.stderr).error(message)


class Notes:
    """Dimmed notes and plain errors, wrapped at the current width of the terminal."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._style = Style.from_stream(out)

    def show(self, *lines: str) -> None:
        """Print notes; each line is wrapped by itself, and keeps its indentation."""
        for line in lines:
            self.plain(self._style.dim(self._fit(line)))

    def error(self, message: str) -> None:
        """Print an error or a notice after the name of the program."""
        line = f"localspec: {message}"
        self.plain(line if "\n" in message else self._fit(line))

    def pairs(self, rows: list[tuple[str, str]]) -> None:
        """Print two columns; the second one is wrapped under itself."""
        width = columns(self._out) if self._out.isatty() else _DEFAULT_WIDTH
        for lines in two_columns(rows, width):
            self.plain(self._style.dim("\n".join(lines)))

    def plain(self, text: str = "") -> None:
        """Print a line unchanged. A full disk or a closed pipe loses the line, and does not end the command."""
        with suppress(OSError):
            self._out.write(f"{text}\n")
            self._out.flush()

    def _fit(self, line: str) -> str:
        if not self._out.isatty():
            return line
        text = line.lstrip()
        indent = line[: len(line) - len(text)]
        return "\n".join(wrap(text, columns(self._out), indent, indent))
