"""How a pull is shown: a bar for each file with rate and time left, then a line that stays; lines alone elsewhere."""

from __future__ import annotations

import time
from collections import deque
from typing import TextIO

from localspec.cli.terminal.notes import Notes
from localspec.cli.terminal.progress import Progress
from localspec.files import size_text

#: Seconds over which the rate is taken.
_WINDOW_S = 5.0
#: Seconds between lines where there is no terminal.
_LINE_S = 30.0
_BAR = 24


class Transfer:
    """Watches a pull (:class:`localspec.models.fetch.Watcher`) and shows it on ``out``."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._notes = Notes(out)
        self._bar: _Bar | None = None
        self._name, self._size, self._have = "", 0, 0
        self._began = self._told = time.monotonic()

    def begin(self, name: str, size: int, have: int) -> None:
        self.close()
        self._name, self._size, self._have = name.rpartition("/")[2], size, have
        self._began = self._told = time.monotonic()
        self._bar = _Bar(self._name, size, have, self._out)
        self._bar.__enter__()
        if have < size and not self._out.isatty():
            rest = f", {size_text(have)} of it are here" if have else ""
            self._notes.say(f"Fetching {self._name} ({size_text(size)}{rest}).")

    def at(self, done: int) -> None:
        if self._bar is not None:
            self._bar.at(done)
        if not self._out.isatty() and time.monotonic() - self._told > _LINE_S:
            self._told = time.monotonic()
            self._notes.say(f"{self._name}: {size_text(done)} of {size_text(self._size)}.")

    def checking(self, done: int) -> None:
        if self._bar is not None:
            self._bar.check(done)

    def end(self, fetched: bool) -> None:
        took = time.monotonic() - self._began
        self.close()
        if fetched:
            rate = speed((self._size - self._have) / max(took, 1e-3))
            self._notes.say(f"{self._name}: {size_text(self._size)} in {duration(took)} ({rate}), its hash is right.")
        else:
            self._notes.say(f"{self._name}: {size_text(self._size)}, here already, its hash is right.")

    def note(self, text: str) -> None:
        """A line beside the bar, which goes on below it."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.end()
        self._notes.say(f"{text[:1].upper()}{text[1:]}.")
        if bar is not None:
            self._bar = bar.again()
            self._bar.__enter__()

    def close(self) -> None:
        """Take the bar off the screen."""
        if self._bar is not None:
            self._bar.end()
            self._bar = None


class _Bar(Progress):
    """The bar of one file."""

    def __init__(self, name: str, size: int, have: int, out: TextIO) -> None:
        super().__init__(name, out, delay_s=0.2)
        self._size, self._done, self._checked = size, have, 0
        self._points: deque[tuple[float, int]] = deque([(time.monotonic(), have)])

    def again(self) -> _Bar:
        bar = _Bar(self.label, self._size, self._done, self._out)
        bar._points = self._points
        return bar

    def at(self, done: int) -> None:
        self._done, now = done, time.monotonic()
        if now - self._points[-1][0] > 0.1:
            self._points.append((now, done))
        while len(self._points) > 2 and now - self._points[1][0] > _WINDOW_S:
            self._points.popleft()

    def check(self, done: int) -> None:
        self._checked = done

    def _line(self, room: int) -> str:
        if self._checked:
            share, tail = self._checked / max(1, self._size), " checking"
        else:
            share, tail = self._done / max(1, self._size), self._speed(room)
        percent = f" {min(share, 1.0):4.0%}"
        bar = min(_BAR, room - len(self.label) - len(percent) - len(tail) - 3)
        if bar < 8:
            return self._fit(f"{percent}{tail}", room)
        full = round(min(share, 1.0) * bar)
        return f"{self.label} [{'#' * full}{'.' * (bar - full)}]{percent}{tail}"

    def _speed(self, room: int) -> str:
        """Bytes, rate and time left, as far as there is room for them."""
        (since, before), now = self._points[0], time.monotonic()
        rate = (self._done - before) / max(now - since, 1e-3)
        left = f", {duration((self._size - self._done) / rate)} left" if rate > 1 else ""
        amount = f" of {size_text(self._size)}" if room >= 60 else ""
        return f"{amount}, {speed(rate)}{left}"


def speed(rate: float) -> str:
    """Bytes per second with two or three digits: ``640 kB/s``, ``2.4 MB/s``, ``110 MB/s``."""
    if rate < 1e6:
        return f"{rate / 1e3:.0f} kB/s"
    return f"{rate / 1e6:.1f} MB/s" if rate < 1e7 else f"{rate / 1e6:.0f} MB/s"


def duration(seconds: float) -> str:
    """``8 s``, ``3:05``, ``2:10:00``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
