"""Ctrl-C as a request that is looked at between steps, so that it never lands inside the engine."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any


class Stop:
    """Set by the first Ctrl-C; a second one raises KeyboardInterrupt at once, in case nothing looks."""

    def __init__(self, on_ask: Callable[[], None]) -> None:
        self.asked = False
        self._on_ask = on_ask

    def _signal(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self._on_ask()

    def check(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C was pressed."""
        if self.asked:
            raise KeyboardInterrupt


@contextmanager
def listening(on_ask: Callable[[], None] = lambda: None) -> Iterator[Stop]:
    """Take Ctrl-C for the length of the block; ``on_ask`` is called when it is pressed."""
    stop = Stop(on_ask)
    try:
        before = signal.signal(signal.SIGINT, stop._signal)
    except ValueError:  # not the main thread, where Ctrl-C does not arrive anyway
        yield stop
        return
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def silent_keys() -> Iterator[Callable[[], None]]:
    """Keep what is typed off the screen for the length of the block; the terminal queues it for the next prompt.

    Gives a function that ends this early.
    """
    try:
        import termios
    except ImportError:  # Windows echoes only while a line is read
        yield lambda: None
        return
    before: list[Any] | None = None
    handle = 0
    with suppress(termios.error, OSError, ValueError):
        handle = sys.stdin.fileno()
        before = termios.tcgetattr(handle)
        quiet = list(before)
        quiet[3] &= ~termios.ECHO
        termios.tcsetattr(handle, termios.TCSANOW, quiet)

    def restore() -> None:
        if before is not None:
            with suppress(termios.error, OSError):
                termios.tcsetattr(handle, termios.TCSANOW, before)

    try:
        yield restore
    finally:
        restore()
