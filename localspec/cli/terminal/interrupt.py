"""Ctrl-C as a flag that is read between steps, so that it never interrupts the engine inside one."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

#: Those that handle Ctrl-C now, the innermost last.
_handling: list[Interrupt] = []


class Interrupt:
    """Set by the first Ctrl-C. A second one raises KeyboardInterrupt at once, in case the flag is not read.

    ``at_once``: the first one does, too.
    """

    def __init__(self, on_press: Callable[[], None]) -> None:
        self.pressed = self.at_once = False
        self._on_press = on_press

    def _signal(self, number: int, frame: FrameType | None) -> None:
        if self.pressed or self.at_once:
            raise KeyboardInterrupt
        self.pressed = True
        self._on_press()

    def check(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C was pressed."""
        if self.pressed:
            raise KeyboardInterrupt


@contextmanager
def catching_interrupts(on_press: Callable[[], None] = lambda: None) -> Iterator[Interrupt]:
    """Handle Ctrl-C for the length of the block; ``on_press`` is called when it is pressed."""
    interrupt = Interrupt(on_press)
    try:
        before = signal.signal(signal.SIGINT, interrupt._signal)
    except ValueError:  # not the main thread, where Ctrl-C does not arrive anyway
        yield interrupt
        return
    _handling.append(interrupt)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
        _handling.remove(interrupt)


def interrupt_at_once(at_once: bool) -> None:
    """Whether Ctrl-C raises KeyboardInterrupt at once where it is handled now: nobody reads the flag in a long wait."""
    for interrupt in _handling[-1:]:
        interrupt.at_once = at_once


@contextmanager
def silent_keys() -> Iterator[Callable[[], None]]:
    """Switch off the echo of typed keys for the length of the block; the terminal queues them for the next prompt.

    Yields a function that ends this early.
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
