"""Exclusive use of an engine: callers wait in order, and any thread can end a use.

llama.cpp's contexts may be driven by one caller at a time. Invariant: native code of an engine runs only in the thread
that ``runner`` of the first use in the queue names. A first use without a runner is a stream between two chunks.

No operation but :meth:`EngineLock.wait` and :meth:`EngineLock.close` blocks, and each changes the queue by one atomic
operation: they also run when the garbage collector closes an abandoned stream, in any thread at any line, and in
signal handlers. A thread sets its own flag before it reads the flag of the other (Dekker's rule), so of two threads
that meet at least one sees the other: ``runner`` before ``stopped``, ``lost`` and closed; those before ``runner``.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import get_ident
from time import sleep

from localspec.errors import BackendError

#: Seconds between two looks at the ``cancel`` event of a waiting call, and the longest delay if a wake-up is lost.
_POLL_S = 0.02
_LOST = "another generation or call was started in this thread; finish or close a stream first."
#: Forks between the first process and this one: cheaper to compare in each pass than the id of the process.
_forks = 0


def _count_fork() -> None:
    global _forks  # noqa: PLW0603 - the process has one count
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


class Use:
    """A place in the queue of an engine and, when it is first, its use. It ends with the last reference to it.

    ``cancel`` gives it up. ``stoppable``: :meth:`EngineLock.stop` ends it. ``thread``: the one thread that has waited
    for it and run it; None before, and once several have. ``runner``: the thread that runs it now. ``lost``: it is no
    longer in the queue.
    """

    __slots__ = ("__weakref__", "cancel", "lost", "place", "runner", "signal", "stoppable", "stopped", "thread")

    def __init__(self, cancel: threading.Event | None, stoppable: bool) -> None:
        self.cancel, self.stoppable = cancel, stoppable
        self.stopped = self.lost = False
        self.thread: int | None = None
        self.runner: int | None = None
        self.place: weakref.ref[Use] | None = None
        self.signal = threading.Lock()  # released to wake its waiting thread; no Python code runs under it
        self.signal.acquire()

    def cancelled(self) -> bool:
        return self.stopped or (self.cancel is not None and self.cancel.is_set())


class EngineLock:
    """Queue of the uses of one engine, in the process that made it."""

    def __init__(self) -> None:
        self._queue: deque[weakref.ref[Use]] = deque()
        self._vocabulary = threading.RLock()
        self._forks = _forks
        self._closed = False
        self._free: list[Callable[[], None]] = []

    def check(self) -> None:
        """Raise :class:`BackendError` after :meth:`close` and in a forked process."""
        if self._forks != _forks:
            raise BackendError("the engine was loaded before a fork; load it again in this process.")
        if self._closed:
            raise BackendError("the engine was closed; load it again.")

    # One use.

    def enqueue(self, cancel: threading.Event | None = None, *, stoppable: bool = True) -> Use:
        """Append a use to the queue. Call :meth:`wait` before it, and :meth:`leave` after it."""
        self.check()
        use = Use(cancel, stoppable)
        use.place = weakref.ref(use, self._dropped)
        self._queue.append(use.place)
        return use

    def wait(self, use: Use) -> bool:
        """Wait until ``use`` is first; returns False if it was cancelled before. Ends open streams of this thread.

        Raises :class:`BackendError` inside another call of this thread, and when the engine is closed.
        """
        self._end_own_streams(use)
        use.thread = get_ident()
        while self._first() is not use:
            self.check()
            lost = use.lost
            if use.cancelled():
                return False
            if lost:
                raise BackendError(_LOST)
            use.signal.acquire(timeout=_POLL_S)
        use.runner = get_ident()
        self.check()
        return not use.cancelled()

    def suspend(self, use: Use) -> None:
        """Between two chunks: keep the place, run nothing."""
        use.runner = None
        if use.stopped:
            self._drop(use)

    def resume(self, use: Use) -> None:
        """Go on after :meth:`suspend`. Raises :class:`BackendError` if another call of this thread ended the use."""
        if use.thread != get_ident():
            use.thread = None
        use.runner = get_ident()
        if use.stopped:
            return
        self.check()
        if use.lost:
            raise BackendError(_LOST)

    def leave(self, use: Use) -> None:
        """End a use, started or not. May be called twice."""
        use.runner = None
        self._drop(use)

    def cancel(self, use: Use) -> None:
        """End a use between passes, from any thread. A waiting call gives up, a suspended stream loses its place."""
        use.stopped = True
        if use.runner is None:
            self._drop(use)

    @contextmanager
    def exclusive(self, *, stoppable: bool = False) -> Iterator[Use]:
        """Use of the engine for the block."""
        use = self.enqueue(stoppable=stoppable)
        try:
            if not self.wait(use):
                raise BackendError("the call was stopped before it began.")
            yield use
        finally:
            self.leave(use)

    @contextmanager
    def beside_stream(self) -> Iterator[None]:
        """The same, but an open stream of this thread goes on after the block."""
        first = self._first()
        if first is None or first.thread != get_ident() or first.runner is not None:
            with self.exclusive():
                yield
            return
        self.resume(first)
        try:
            self.check()
            yield
        finally:
            self.suspend(first)

    @contextmanager
    def vocabulary(self) -> Iterator[None]:
        """Read the vocabulary, also while another thread generates."""
        self.check()  # before the lock, which another thread may have held at a fork
        try:
            with self._vocabulary:
                self.check()
                yield
        finally:
            self._free_if_closed()

    def contended(self) -> bool:
        """Return True if another use waits behind the first one."""
        return len(self._queue) > 1

    # All uses.

    def stop(self) -> None:
        """Cancel every use that runs, is suspended or waits."""
        for use in self._uses():
            if use.stoppable:
                self.cancel(use)

    def close(self, free: Callable[[], None]) -> None:
        """Cancel every use, wait until none runs, then call ``free``. In a forked process nothing happens.

        An open stream of this thread raises :class:`BackendError` when it is resumed. Called by a callback or a signal
        handler inside a call of this thread, it returns at once, and that call frees at its end.
        """
        if self._closed or self._forks != _forks:
            return
        self._free.append(free)
        self._closed = True
        for use in self._uses():
            if use.runner is None and use.thread == get_ident():
                self._drop(use)
            else:
                self.cancel(use)
        while runners := self._runners():
            if get_ident() in runners:
                return
            sleep(_POLL_S / 4)
        self._free_if_closed()

    def _free_if_closed(self) -> None:
        if not self._closed or self._vocabulary._is_owned():  # type: ignore[attr-defined]  # as Condition does
            return
        with self._vocabulary:
            if not self._runners():
                with suppress(IndexError):
                    free = self._free.pop()
                    free()

    # The queue.

    def _uses(self) -> list[Use]:
        """Uses that are not collected, in order."""
        while True:
            with suppress(RuntimeError):  # the collector took one out meanwhile
                return [use for place in tuple(self._queue) if (use := place()) is not None]

    def _runners(self) -> set[int]:
        return {use.runner for use in self._uses() if use.runner is not None}

    def _first(self) -> Use | None:
        with suppress(IndexError):
            while (use := (place := self._queue[0])()) is None:
                self._dropped(place)
            return use
        return None

    def _end_own_streams(self, new: Use) -> None:
        if get_ident() in self._runners():
            raise BackendError("a callback of a running call cannot use the engine; use it after that call.")
        for use in self._uses():
            if use is not new and use.thread == get_ident():
                use.lost = True
                if use.runner is None:  # else another thread has just resumed it, which ends it at its next chunk
                    self._drop(use)

    def _drop(self, use: Use) -> None:
        use.lost = True
        place, use.place = use.place, None  # so that it is not called again when the use is collected
        if place is not None:
            self._dropped(place)

    def _dropped(self, place: weakref.ref[Use]) -> None:
        with suppress(ValueError):
            self._queue.remove(place)
        first = self._first()
        if first is not None:
            with suppress(RuntimeError):  # it has its signal already
                first.signal.release()
        self._free_if_closed()
