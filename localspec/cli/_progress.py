"""A progress bar that only shows when the wait is long, and leaves nothing behind."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TextIO

from localspec.cli._style import columns

DELAY_S = 0.5
_REDRAW_S = 0.1
_BAR = 20


class Progress:
    """``with Progress("Loading tiny", sys.stderr) as bar: bar.fraction(0.3)``.

    Draws only on a terminal, from ``DELAY_S`` after the start on, with nothing but carriage returns and spaces, so
    that it also works where there are no escape sequences.
    """

    def __init__(self, label: str, out: TextIO, delay_s: float = DELAY_S) -> None:
        self._label = label
        self._out = out
        self._next = time.monotonic() + delay_s
        self._shown = 0
        self._live = out.isatty()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.erase()

    def fraction(self, done: float) -> None:
        """``done`` from 0.0 to 1.0."""
        if not self._live or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _REDRAW_S
        room = columns(self._out) - 1
        share = min(max(done, 0.0), 1.0)
        line = f"{self._label} {share:4.0%}"
        bar = min(_BAR, room - len(line) - 3)
        if bar >= 5:
            full = round(share * bar)
            line = f"{self._label} [{'#' * full}{'.' * (bar - full)}] {share:4.0%}"
        line = line[-room:]
        self._out.write(f"\r{line.ljust(self._shown)}")
        self._out.flush()
        self._shown = len(line)

    def count(self, done: int, total: int) -> None:
        """``done`` of ``total`` tokens."""
        if total > 0:
            self.fraction(done / total)

    def erase(self) -> None:
        """Take the bar off the screen; the next :meth:`fraction` may draw it again."""
        if self._shown:
            self._out.write(f"\r{' ' * self._shown}\r")
            self._out.flush()
            self._shown = 0
