"""Colour and dimming of a stream, and its width.

``NO_COLOR`` (https://no-color.org), ``TERM=dumb`` and anything that is not a terminal mean plain text, without escape
sequences.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TextIO

#: SGR codes (ECMA-48).
DIM = "2"
TINT = "36"
BOLD = "1"


@dataclass(frozen=True)
class Style:
    """Puts SGR sequences around text; returns it unchanged when ``on`` is False."""

    on: bool

    @classmethod
    def from_stream(cls, stream: TextIO) -> Style:
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "") == "dumb"
        # Old Windows consoles print escape sequences as text; Windows Terminal sets WT_SESSION.
        legacy = os.name == "nt" and not os.environ.get("WT_SESSION")
        return cls(stream.isatty() and not plain and not legacy)

    def paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.on and code and text else text

    def dim(self, text: str) -> str:
        return self.paint(text, DIM)


def columns(stream: TextIO, default: int = 80) -> int:
    """The current width of the terminal, which may change at any time, or ``default``."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or default
    except (OSError, ValueError):
        return default
