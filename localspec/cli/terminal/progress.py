"""A progress bar that appears only in a long wait, and is erased at its end."""

from __future__ import annotations

import time
from threading import Event, Thread
from types import TracebackType
from typing import TextIO

from localspec.cli.terminal.style import columns

#: Seconds before the bar appears: most waits are shorter.
DELAY_S = 0.5
#: Seconds between two drawings.
_REDRAW_S = 0.1
#: Most and fewest cells of a bar; with less room there is none.
_BAR, _SHORTEST_BAR = 24, 5


class ProgressBar:
    """``with ProgressBar("Loading tiny", sys.stderr) as bar: bar.fraction(0.3)``.

    A thread draws it, since llama.cpp may not call back for seconds. It is drawn on a terminal only, with carriage
    returns and spaces, which also work where escape sequences do not.
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

    def __enter__(self) -> ProgressBar:
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
        """``done`` of ``total`` steps, tokens or bytes."""
        if total > 0:
            self.fraction(done / total)

    def end(self) -> None:
        """Erase the bar, for good."""
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

    def _line(self, width: int) -> str:
        """The bar with its share, or the seconds so far where no share is known."""
        if self._share is None:
            return self._with_label(f", {time.monotonic() - self._began:.0f} s", width)
        return self._with_bar(self._share, "", width)

    def _with_bar(self, share: float, tail: str, width: int) -> str:
        percent = f" {share:4.0%}"
        cells = min(_BAR, width - len(self.label) - len(percent) - len(tail) - 3)
        if cells < _SHORTEST_BAR:
            return self._with_label(f"{percent}{tail}", width)
        full = round(share * cells)
        return f"{self.label} [{'#' * full}{'.' * (cells - full)}]{percent}{tail}"

    def _with_label(self, tail: str, width: int) -> str:
        space = max(0, width - len(tail))
        label = self.label if len(self.label) <= space else self.label[: max(0, space - 3)] + "..."
        return f"{label}{tail}"[:width]
