"""Progress of a pull: a bar for each file with rate and time left, then a line that stays.

Without a terminal there are lines alone.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TextIO

from localspec.cli.terminal.notes import Notes
from localspec.cli.terminal.progress import ProgressBar
from localspec.cli.terminal.units import duration_text, rate_text
from localspec.files import size_text

#: Seconds over which the rate is averaged.
_WINDOW_S = 5.0
#: Seconds between two points of the rate.
_POINT_S = 0.1
#: Seconds between two lines where there is no terminal.
_LINE_S = 30.0
#: Columns from which the size of the file is shown as well.
_WIDE = 60


class Transfer:
    """Shows a pull on ``out``; implements :class:`localspec.models.fetch.TransferProgress`."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._notes = Notes(out)
        self._bar: TransferBar | None = None
        self._name, self._size, self._have = "", 0, 0
        self._began = self._shown = time.monotonic()

    def begin(self, name: str, size: int, have: int) -> None:
        """Start a file of ``size`` bytes, of which ``have`` are on disk."""
        self.close()
        self._name, self._size, self._have = name.rpartition("/")[2], size, have
        self._began = self._shown = time.monotonic()
        self._bar = TransferBar(self._name, size, have, self._out)
        self._bar.__enter__()
        if have < size and not self._out.isatty():
            rest = f", {size_text(have)} already on disk" if have else ""
            self._notes.show(f"Fetching {self._name} ({size_text(size)}{rest}).")

    def received(self, done: int) -> None:
        """``done`` bytes of the file are on disk."""
        if self._bar is not None:
            self._bar.at(done)
        if not self._out.isatty() and time.monotonic() - self._shown > _LINE_S:
            self._shown = time.monotonic()
            self._notes.show(f"{self._name}: {size_text(done)} of {size_text(self._size)}.")

    def hashed(self, done: int) -> None:
        """``done`` bytes of the file are hashed."""
        if self._bar is not None:
            self._bar.check(done)

    def end(self, fetched: bool) -> None:
        """Finish a file; ``fetched`` is False if it was whole already."""
        took = time.monotonic() - self._began
        self.close()
        size = size_text(self._size)
        if fetched:
            rate = rate_text((self._size - self._have) / max(took, 1e-3))
            self._notes.show(f"{self._name}: {size} in {duration_text(took)} ({rate}), hash verified.")
        else:
            self._notes.show(f"{self._name}: {size}, already on disk, hash verified.")

    def note(self, text: str) -> None:
        """Print a line; the bar goes on below it."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.end()
        self._notes.show(f"{text[:1].upper()}{text[1:]}.")
        if bar is not None:
            self._bar = bar.copy()
            self._bar.__enter__()

    def close(self) -> None:
        """Erase the bar."""
        if self._bar is not None:
            self._bar.end()
            self._bar = None


class TransferBar(ProgressBar):
    """The bar of one file."""

    def __init__(self, name: str, size: int, have: int, out: TextIO) -> None:
        super().__init__(name, out, delay_s=0.2)
        self._size, self._done, self._checked = size, have, 0
        self._points: deque[tuple[float, int]] = deque([(time.monotonic(), have)])

    def copy(self) -> TransferBar:
        """A bar with the same state, not yet drawn."""
        bar = TransferBar(self.label, self._size, self._done, self._out)
        bar._points = self._points
        return bar

    def at(self, done: int) -> None:
        self._done, now = done, time.monotonic()
        if now - self._points[-1][0] > _POINT_S:
            self._points.append((now, done))
        while len(self._points) > 2 and now - self._points[1][0] > _WINDOW_S:
            self._points.popleft()

    def check(self, done: int) -> None:
        self._checked = done

    def _line(self, width: int) -> str:
        done, tail = (self._checked, " checking") if self._checked else (self._done, self._rate(width))
        return self._with_bar(min(done / max(1, self._size), 1.0), tail, width)

    def _rate(self, width: int) -> str:
        """Size, rate and time left, as far as they fit."""
        (since, before), now = self._points[0], time.monotonic()
        rate = (self._done - before) / max(now - since, 1e-3)
        left = f", {duration_text((self._size - self._done) / rate)} left" if rate > 1 else ""
        amount = f" of {size_text(self._size)}" if width >= _WIDE else ""
        return f"{amount}, {rate_text(rate)}{left}"
