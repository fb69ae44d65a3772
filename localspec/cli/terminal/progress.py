"""A progress bar that only shows when the wait is long, and leaves nothing behind."""

from __future__ import annotations

import time
from threading import Event, Thread
from types import TracebackType
from typing import TextIO

from localspec.cli.terminal.style import columns

DELAY_S = 0.5
_REDRAW_S = 0.1
_BAR = 20


class Progress:
    """``with Progress("Loading tiny", sys.stderr) as bar: bar.fraction(0.3)``.

    A thread draws it, since llama.cpp may be busy for seconds without a word: from ``DELAY_S`` after the start on, only
    on a terminal, and with nothing but carriage returns and spaces, which also work where escape sequences do not.
    """

    def __init__(self, label: str, out: TextIO, delay_s: float = DELAY_S) -> None:
        self.label = label
        self._out = out
        self._delay_s = delay_s
        self._began = time.monotonic()
        self._share: float | None = None
        self._shown = 0
        self._over = Event()
        self._thread = Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Progress:
        if self._out.isatty():
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def fraction(self, done: float) -> None:
        """``done`` from 0.0 to 1.0."""
        self._share = min(max(done, 0.0), 1.0)

    def count(self, done: int, total: int) -> None:
        """``done`` of ``total`` tokens."""
        if total > 0:
            self.fraction(done / total)

    def end(self) -> None:
        """Take the bar off the screen, for good."""
        if self._over.is_set():
            return
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._shown:
            self._out.write(f"\r{' ' * self._shown}\r")
            self._out.flush()

    def _run(self) -> None:
        wait = self._delay_s
        while not self._over.wait(wait):
            self._draw()
            wait = _REDRAW_S

    def _draw(self) -> None:
        line = self._line(columns(self._out) - 1)
        self._out.write(f"\r{line.ljust(self._shown)}")
        self._out.flush()
        self._shown = len(line)

    def _line(self, room: int) -> str:
        if self._share is None:
            return self._fit(f", {time.monotonic() - self._began:.0f} s", room)
        percent = f" {self._share:4.0%}"
        bar = min(_BAR, room - len(self.label) - len(percent) - 3)
        if bar < 5:
            return self._fit(percent, room)
        full = round(self._share * bar)
        return f"{self.label} [{'#' * full}{'.' * (bar - full)}]{percent}"

    def _fit(self, end: str, room: int) -> str:
        space = max(0, room - len(end))
        label = self.label if len(self.label) <= space else self.label[: max(0, space - 3)] + "..."
        return f"{label}{end}"[:room]
