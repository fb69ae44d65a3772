"""What a stream can show: colour and dimming, or plain text.

``NO_COLOR`` (https://no-color.org), ``TERM=dumb`` and anything that is not a terminal mean plain text, with no escape
sequence at all.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TextIO

DIM = "2"
TINT = "36"
BOLD = "1"


@dataclass(frozen=True)
class Style:
    """Wraps text in SGR sequences, or leaves it alone when ``on`` is False."""

    on: bool

    @classmethod
    def of(cls, stream: TextIO) -> Style:
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "") == "dumb"
        # Old Windows consoles print escape sequences as text; Windows Terminal says what it is.
        legacy = os.name == "nt" and not os.environ.get("WT_SESSION")
        return cls(stream.isatty() and not plain and not legacy)

    def paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.on and code and text else text

    def dim(self, text: str) -> str:
        return self.paint(text, DIM)


def columns(stream: TextIO, default: int = 80) -> int:
    """The width of the terminal now (it may be resized at any time), or ``default``."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or default
    except (OSError, ValueError):
        return default
