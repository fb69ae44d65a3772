"""Word wrapping of finished text. Words longer than a line stay whole, so that paths and commands can be copied."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

#: Narrowest widths that text and a second column are wrapped at, in columns.
_NARROWEST, _NARROWEST_COLUMN = 20, 16


def wrap(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    """Lines of at most ``width`` columns; ``first`` is put before the first line and ``rest`` before the others."""
    lines = textwrap.wrap(
        text,
        max(width, _NARROWEST),
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return lines or [first]


def two_columns(rows: Sequence[tuple[str, str]], width: int) -> list[list[str]]:
    """The lines of each row: a name, and a text that is wrapped in its own column."""
    left = max(len(name) for name, _ in rows) + 2
    width = max(width, left + _NARROWEST_COLUMN)
    return [wrap(text, width, f"{name:<{left}}", " " * left) for name, text in rows]
