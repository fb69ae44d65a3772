"""The parent's end of the child process: start it, ask it, notice that it is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any

from localspec.errors import BackendError, LocalspecError
from localspec.machines.pipe import receive, send

_CHILD = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from localspec.machines.child import main; main()"
#: Bytes at the end of the child's log that are read for its last words.
_LAST = 4096
#: Seconds in which a child ends that has closed its end.
_ENDING_S = 5.0
_GONE = (0, "gone", None)


class ChildGoneError(BackendError):
    """The child process ended. The message says how."""


class Child:
    """A running child. One thread asks at a time."""

    def __init__(self) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this object
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _CHILD, json.dumps(sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env={**os.environ, "GGML_NO_BACKTRACE": "1"},
            )
        except OSError as error:
            raise BackendError(f"the process that holds the model cannot be started ({error}).") from error
        self._answers: SimpleQueue[Any] = SimpleQueue()
        self._number = 0
        Thread(target=self._read, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, verb: str, *arguments: Any, progress: Callable[[float], None] | None = None) -> Any:
        """Send a request and wait for its answer; an interrupt ends the wait and leaves the child usable.

        Raises :class:`ChildGoneError`, or the error that the child answers.
        """
        self._number += 1
        assert self._process.stdin is not None
        try:
            send(self._process.stdin, (self._number, verb, arguments))
        except OSError:
            raise self._gone() from None
        while True:
            number, kind, value = self._answers.get()
            if kind == "gone":
                self._answers.put(_GONE)
                raise self._gone()
            if number != self._number:  # of a request whose wait was interrupted
                continue
            if kind == "value":
                return value
            if kind == "error":
                assert isinstance(value, LocalspecError)
                raise value
            if progress is not None:
                progress(value)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with suppress(EOFError, OSError, ValueError):
            while True:
                self._answers.put(receive(self._process.stdout))
        self._answers.put(_GONE)

    def _gone(self) -> ChildGoneError:
        try:
            code = self._process.wait(_ENDING_S)
        except subprocess.TimeoutExpired:  # it has closed its end and still runs
            self._process.kill()
            code = self._process.wait()
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - _LAST))
        lines = [
            line.strip() for line in self._log.read().decode("utf-8", errors="replace").splitlines() if line.strip()
        ]
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        with suppress(ValueError):
            how = signal.Signals(-code).name if code < 0 else how
        last = f": {lines[-1].rpartition('/')[2][:160]}" if lines else ""
        return ChildGoneError(f"{how}{last}")

    def close(self) -> None:
        """End the process. May be called twice."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
        self._log.close()
