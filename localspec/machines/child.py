"""The child process: models with layers on other machines, and their contexts. llama.cpp may abort it at any time.

It answers requests ``(number, verb, arguments)`` by ``(number, kind, value)``; ``kind`` is ``value``, ``error`` or
``progress``. Rows go through memory that it shares with its parent.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import IO, Any

import numpy as np

from localspec.errors import BackendError, LocalspecError
from localspec.gguf.header import read_header
from localspec.llama.binding import lib
from localspec.llama.devices import Split
from localspec.llama.model import LlamaModel
from localspec.llama.native import open_native
from localspec.llama.passes import Native
from localspec.machines.jobs import Job, Opening
from localspec.machines.keepalive import keep_alive
from localspec.machines.pipe import receive, send
from localspec.machines.shared import SharedRows
from localspec.params import ContextParams

#: Verbs that are those of a context.
CALLS = frozenset({"remove", "clear", "copy", "state", "set_state", "first_position", "adapt_threads"})


class _Host:
    """The models and contexts, by number."""

    def __init__(self, report: Callable[[float], None]) -> None:
        self._report = report
        self._models: dict[int, LlamaModel] = {}
        self._contexts: dict[int, tuple[Native, SharedRows, Opening]] = {}

    def load(self, number: int, path: str, params: ContextParams, split: Split | None, verbose: bool) -> None:
        header = read_header(Path(path))
        self._models[number] = LlamaModel(header, params, verbose=verbose, progress=self._report, split=split)

    def open(self, number: int, opening: Opening) -> int:
        """Returns the cells of each sequence."""
        model = self._models[opening.model]
        options = lib.llama_context_params.from_buffer_copy(opening.options)
        beside = None if opening.beside is None else self._contexts[opening.beside][0]
        native = open_native(
            model, options, opening.n_batch, opening.n_ctx, n_hidden=opening.n_hidden, fast=opening.fast, beside=beside
        )
        shared = SharedRows(opening.shared, options.n_outputs_max, model.n_vocab, opening.n_hidden)
        self._contexts[number] = native, shared, opening
        return native.cells

    def run(self, number: int, job: Job) -> None:
        native, shared, _ = self._contexts[number]
        if len(job.parts) == 1:
            part = job.parts[0]
            native.fill(part.tokens, part.start, len(part.outputs), job.sequence)
            n = len(part.tokens)
        else:
            n = native.fill_neighbours(job.sequence, job.parts)
        embd = np.frombuffer(job.embd, np.float32).copy() if job.embd is not None else None
        native.run(n, None if embd is None else embd.ctypes.data_as(ctypes.POINTER(ctypes.c_float)))
        n_out = job.n_out
        shared.logits[:n_out] = native.rows(n_out)
        if n_out and shared.hidden.shape[1]:
            shared.hidden[:n_out] = native.hidden(n_out)

    def call(self, number: int, name: str, *arguments: Any) -> Any:
        if name not in CALLS:
            raise BackendError(f"a context has no {name}.")
        return getattr(self._contexts[number][0], name)(*arguments)

    def close(self, number: int) -> None:
        found = self._contexts.pop(number, None)
        if found is not None:
            found[0].close()


def main() -> None:
    """Answer requests from standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # llama.cpp may print
    keep_alive()
    requests: SimpleQueue[Any] = SimpleQueue()
    Thread(target=_read, args=(sys.stdin.buffer, requests), daemon=True).start()
    number = 0
    host = _Host(lambda share: send(answers, (number, "progress", share)))
    while True:
        number, verb, arguments = requests.get()
        try:
            answer = (number, "value", getattr(host, verb)(*arguments))
        except (LocalspecError, MemoryError, OSError) as error:
            answer = (number, "error", error if isinstance(error, LocalspecError) else BackendError(str(error)))
        send(answers, answer)


def _read(pipe: IO[bytes], requests: SimpleQueue[Any]) -> None:
    """Queue requests. The process ends with its parent, also while llama.cpp waits for a worker."""
    try:
        while True:
            requests.put(receive(pipe))
    except EOFError:
        os._exit(0)
