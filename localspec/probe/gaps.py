"""Measure a pair in the gaps between answers, in a thread that a request interrupts."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Generic, TypeVar

from localspec.llama.abort import Abort, AbortedError

T = TypeVar("T")


class GapsClosedError(Exception):
    """The engine was closed: the measurement ends before its next pass. Never leaves this room."""


class Gate:
    """Lets the passes of a measurement through, one at a time, and none while a request is answered.

    ``abort`` ends one that runs when a request begins or the gate is closed. It is to be made again then.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._requests = self._begun = 0
        self._passing = self._closed = self._decided = self._all = False
        self.abort = Abort()
        self._lasting = False
        #: What the measurement has opened. It is closed when the measurement ends.
        self.opened = ExitStack()
        self._on_close: list[Callable[[], None]] = []

    def enter(self) -> None:
        """Begin a request; waits for the end of the pass that runs."""
        with self._changed:
            self._requests += 1
            self._begun += 1
            self.abort.switch(on=not self._lasting)
            self._changed.wait_for(lambda: not self._passing)

    def leave(self) -> None:
        """End a request."""
        with self._changed:
            self._requests -= 1
            self._changed.notify_all()

    @contextmanager
    def one_pass(self, *, ends: bool = True) -> Iterator[None]:
        """Run a pass when no request is answered. Raises :class:`GapsClosedError` after :meth:`close`.

        ``ends`` False: no request ends it, so that a measurement goes on where gaps are short.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._requests)
            if self._closed:
                raise GapsClosedError
            self._passing, self._lasting = True, not ends
            self.abort.switch(on=False)
        try:
            yield
        except AbortedError:
            if self._closed:
                raise GapsClosedError from None
            raise
        finally:
            with self._changed:
                self._passing = False
                self._changed.notify_all()

    def decided(self) -> None:
        """Tell that drafting is decided; wait until the rest is wanted, by a second request or :meth:`want_all`.

        Raises :class:`GapsClosedError` after :meth:`close`.
        """
        with self._changed:
            self._decided = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._closed or self.wants_all())
            if self._closed:
                raise GapsClosedError

    def wants_all(self) -> bool:
        """True if what only later requests need is wanted."""
        return self._all or self._begun > 1

    def want_all(self) -> None:
        """Let the measurement go on behind :meth:`decided`."""
        with self._changed:
            self._all = True
            self._changed.notify_all()

    def wait_decided(self, seconds: float | None) -> bool:
        """Wait until drafting is decided or the gate closed, at most ``seconds``; returns True if it is decided."""
        with self._changed:
            self._changed.wait_for(lambda: self._decided or self._closed, seconds)
            return self._decided

    def on_close(self, call: Callable[[], None]) -> None:
        """Call ``call``, which ends what is no pass, when the gate is closed. Raises if it is: see :meth:`one_pass`."""
        self._on_close.append(call)
        if self._closed:
            raise GapsClosedError

    def close(self) -> None:
        """Let no further pass through."""
        with self._changed:
            self._closed = True
            self.abort.switch(on=True)
            self._changed.notify_all()
        for call in self._on_close:
            call()


class Gaps(Generic[T]):
    """A measurement that is made between requests.

    ``measure`` runs in a thread of its own. It calls its first argument with each new result, and makes its passes
    in :meth:`Gate.one_pass`. The thread starts with the first request, and waits for its end.
    """

    def __init__(self, measure: Callable[[Gate, Callable[[T], None]], None]) -> None:
        self._measure, self._gate = measure, Gate()
        self._thread: threading.Thread | None = None
        self._news: T | None = None
        self._error: Exception | None = None
        self._done = False

    @contextmanager
    def request(self) -> Iterator[None]:
        """Keep the measurement from making passes while a request is answered."""
        self._gate.enter()
        try:
            self._start()
            yield
        finally:
            self._gate.leave()

    def news(self) -> T | None:
        """The newest result, None if it was taken before."""
        found, self._news = self._news, None
        return found

    def wait(self, seconds: float | None = None, *, whole: bool = True) -> bool:
        """Wait for the end of the measurement, at most ``seconds``; True if it has ended. Raises its error.

        ``whole`` False: wait until drafting is decided.
        """
        if whole:
            self._gate.want_all()
        self._start()
        decided = not whole and self._gate.wait_decided(seconds)
        if whole and self._thread is not None:
            self._thread.join(seconds)
        if self._error is not None:
            raise self._error
        return self._done or decided

    def close(self) -> None:
        """End the measurement after its pass. May be called twice."""
        self._gate.close()
        atexit.unregister(self.close)
        if self._thread is threading.current_thread():  # the collector closes the engine there
            self._gate.opened.close()
        elif self._thread is not None:
            self._thread.join()

    def _start(self) -> None:
        if self._thread is None and not self._done:
            # Before anything is freed at exit: what the thread has made is newer than the engine and would be first.
            atexit.register(self.close)
            self._thread = threading.Thread(target=self._run, name="localspec-measure", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            self._measure(self._gate, self._publish)
            self._done = True
        except GapsClosedError:
            pass
        except Exception as error:  # answers stay plain; a caller that waits for the measurement gets it
            self._error = error
        finally:
            self._gate.opened.close()
            self._gate.close()  # nobody waits for what does not come

    def _publish(self, found: T) -> None:
        self._news = found
