"""Engines that two threads cannot be in, and threads whose results a test waits for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from localspec.engine import Engine
from localspec.testing import Logits, ScriptedContext, ScriptedVocabulary, chain_logits, scripted_engine

N = 256
LOGITS = chain_logits(N, 0, scale=6.0)
PROMPT = "Once upon"
SHORT: dict[str, Any] = {"temperature": 0, "max_tokens": 12}
LONG: dict[str, Any] = {"temperature": 0, "max_tokens": 3000}
#: Seconds after which a test has failed; nothing waits for so long.
PATIENCE = 60.0


class Alone(ScriptedContext):
    """Fails where two threads are in it, or one after it was closed."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.inside = 0

    def decode(self, *args: Any) -> Any:
        self.inside += 1
        assert self.inside == 1
        try:
            time.sleep(0)  # another thread may run here
            return super().decode(*args)
        finally:
            self.inside -= 1

    def rewind(self, length: int) -> None:
        assert self.inside == 0
        super().rewind(length)

    def close(self) -> None:
        assert self.inside == 0
        super().close()


class Gate:
    """Logits that let ``free`` calls pass, and then wait for :meth:`open`."""

    def __init__(self, free: int = 0) -> None:
        self.left, self.reached, self._opened = free, threading.Event(), threading.Event()

    def __call__(self, tokens: tuple[int, ...]) -> Any:
        self.left -= 1
        if self.left < 0:
            self.reached.set()
            assert self._opened.wait(PATIENCE)
        return LOGITS(tokens)

    def open(self) -> None:
        self._opened.set()


def engine_of(logits: Logits = LOGITS, drafters: Sequence[Any] = ()) -> Engine:
    engine = scripted_engine(logits, drafters, vocabulary=ScriptedVocabulary(N))
    target: Any = engine._pair.target
    target.__class__, target.inside = Alone, 0
    return engine


class Caller(threading.Thread):
    """Calls ``do`` in a thread; :meth:`result` is what it returned, or raises what it raised."""

    def __init__(self, do: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._do, self._found, self._error = do, None, None
        self.start()

    def run(self) -> None:
        try:
            self._found = self._do()
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        self.join(PATIENCE)
        assert not self.is_alive(), "the call never came back"
        if self._error is not None:
            raise self._error
        return self._found


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.001)


def queued(engine: Engine, count: int) -> None:
    """Wait until so many uses are in the queue."""
    until(lambda: len(engine._lock._uses()) == count)
