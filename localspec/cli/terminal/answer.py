"""A streamed answer on the terminal: whole words, drafted tokens tinted, thoughts dimmed.

Code is never re-wrapped, so that it still runs when copied from the screen. Control characters of an answer do not
reach the terminal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from localspec.cli.terminal.style import DIM, TINT, Style, columns

if TYPE_CHECKING:
    from localspec.generation.result import Chunk

#: Starts of a Markdown code fence.
FENCES = ("```", "~~~")
#: Blanks before a line of indented code in Markdown.
_INDENTED_CODE = 4
#: Characters of a line that are kept to tell code from prose.
_LINE_START = 80


def char_width(char: str) -> int:
    """Terminal cells of a character (0, 1 or 2)."""
    if char.isascii():
        return 1
    from prompt_toolkit.utils import get_cwidth

    return get_cwidth(char)


def printable(text: str) -> str:
    """Remove the control characters that could move the cursor or change the terminal."""
    return "".join(char for char in text if char in "\n\t" or " " <= char <= "~" or ord(char) >= 0xA0)


class WrappedWriter:
    """Writes a stream of text so that no word is cut at the right edge; a word is held back until it is whole.

    ``wrap`` False writes text unchanged. ``width`` returns the current number of columns (default: the terminal's).
    """

    def __init__(self, out: TextIO, style: Style, wrap: bool = True, width: Callable[[], int] | None = None) -> None:
        self._out = out
        self._style = style
        self._wrap = wrap
        self._live = out.isatty()
        self._width = width or (lambda: columns(out))
        self._column = 0
        self._gap = ""
        self._word: list[tuple[str, str]] = []
        self._word_width = 0
        self._line = ""  # the start of the current line of the answer
        self._fenced = False

    def write(self, text: str, code: str = "") -> None:
        """Add text in the SGR style ``code``."""
        if not self._wrap:
            self._write_unchanged(printable(text) if self._live else text, code)
            return
        for char in printable(text):
            if char == "\n":
                self._newline()
            else:
                self._add(char, code)
        if self._is_code():
            self._release()
        self._out.flush()

    def end(self) -> None:
        """End the answer with a line end, unless it is empty or has one."""
        self._release()
        if self._column or self._line:
            self._newline()
        self._out.flush()

    def _write_unchanged(self, text: str, code: str) -> None:
        if text:
            self._out.write(self._style.paint(text, code))
            self._out.flush()
            self._column = 0 if text.endswith("\n") else 1

    def _is_code(self) -> bool:
        indent = len(self._line) - len(self._line.lstrip(" \t"))
        return self._fenced or indent >= _INDENTED_CODE or self._line.lstrip().startswith(FENCES)

    def _newline(self) -> None:
        self._release()
        if self._line.lstrip().startswith(FENCES):
            self._fenced = not self._fenced
        self._out.write("\n")
        self._column, self._gap, self._line = 0, "", ""

    def _add(self, char: str, code: str) -> None:
        if len(self._line) < _LINE_START:
            self._line += char
        if char in " \t":
            self._release()
            self._gap += char
            return
        width = char_width(char)
        if width > 1:  # scripts without spaces break anywhere
            self._release()
        if self._word and self._word[-1][1] == code:
            self._word[-1] = (self._word[-1][0] + char, code)
        else:
            self._word.append((char, code))
        self._word_width += width
        if width > 1:
            self._release()

    def _release(self) -> None:
        """Write the word that was held back, on a new line if it does not fit."""
        if not self._word:
            if self._is_code() and self._gap:
                self._write_gap()
            return
        needed = self._column + len(self._gap) + self._word_width
        if self._column and needed > self._width() and not self._is_code():
            self._out.write("\n")
            self._column, self._gap = 0, ""
        self._write_gap()
        for text, code in self._word:
            self._out.write(self._style.paint(text, code))
        self._column += self._word_width
        self._word, self._word_width = [], 0

    def _write_gap(self) -> None:
        self._out.write(self._gap)
        self._column += len(self._gap)
        self._gap = ""


class AnswerPrinter:
    """Prints the chunks of one answer."""

    def __init__(self, writer: WrappedWriter, *, tint: bool, show_thought: bool) -> None:
        self._writer = writer
        self._tint = tint
        self._show_thought = show_thought
        self._thinking = False

    def add(self, chunk: Chunk) -> None:
        if chunk.channel == "thought":
            self._add_thought(chunk.text)
            return
        if self._thinking:
            self._writer.end()
            self._writer.write("\n")
            self._thinking = False
        if not self._tint:
            self._writer.write(chunk.text)
            return
        for piece, source in zip(chunk.pieces, chunk.sources, strict=True):
            self._writer.write(piece, TINT if source == "drafted" else "")

    def end(self) -> None:
        self._writer.end()

    def _add_thought(self, text: str) -> None:
        if not self._show_thought or not text:
            return
        if not self._thinking:
            self._writer.write("Thinking:\n", DIM)
            self._thinking = True
        self._writer.write(text, DIM)
