"""Models in a child process, which may die: it is started again, and its caches are filled again from their tokens."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any, Protocol

from localspec.errors import BackendError, WorkerError
from localspec.llama.devices import Split
from localspec.machines.address import Address
from localspec.machines.jobs import Opening
from localspec.machines.probe import probe
from localspec.machines.process import Child, ChildGoneError
from localspec.params import ContextParams

#: Seconds for which a worker that went away is waited for, and between two tries.
PATIENCE_S, RETRY_S = 60.0, 1.0
#: Times that the child may end without any worker missing before that is an error.
_MOST_ENDS = 3
#: Sentences about workers that went away and came back. ``waits`` of a record: True until the next one.
log = logging.getLogger("localspec.machines")


class Kept(Protocol):
    """A context that another child can make again. ``number``: its name to the child."""

    number: int
    opening: Opening

    def replay(self) -> Iterator[tuple[Any, ...]]:
        """The requests that bring a new context to its state: verb, then what follows the number."""


@dataclass(frozen=True)
class _Loading:
    path: Path
    params: ContextParams
    split: Split | None
    verbose: bool


class Machines:
    """A child process with models on this machine and ``workers``.

    Every request is answered, by another child where the first one died: the models are loaded again and the passes of
    each cache are run again, so that its cells are the same. Raises :class:`WorkerError` where a worker stays away; the
    next request tries again.
    """

    def __init__(self, workers: Sequence[Address]) -> None:
        self.workers = workers
        self._models: dict[int, _Loading] = {}
        self._contexts: dict[int, Kept] = {}
        self._child: Child | None = None
        self._lock, self._ends, self._closed = RLock(), 0, False

    def load(
        self,
        path: Path,
        params: ContextParams,
        split: Split | None,
        *,
        verbose: bool = False,
        progress: Callable[[float], None] | None = None,
    ) -> int:
        """Load a model in the child; returns its number. ``split``: its layers on the workers."""
        number, loading = len(self._models), _Loading(path, params, split, verbose)
        with self._lock:
            child = self._child = self._child or Child()
            try:
                child.ask("load", number, *vars(loading).values(), progress=progress)
            except ChildGoneError as gone:
                self._drop()
                raise self._end(gone) from None
            self._models[number] = loading
        return number

    def open(self, context: Kept) -> int:
        """Make a context in the child; returns the cells of each sequence."""
        with self._lock:
            context.number = max(self._contexts, default=-1) + 1
            cells = self.ask("open", context.number, context.opening)
            self._contexts[context.number] = context
            return int(cells)

    def forget(self, context: Kept) -> None:
        """Free a context in the child."""
        with self._lock:
            if self._contexts.pop(context.number, None) and self._child is not None:
                with suppress(BackendError):
                    self._child.ask("close", context.number)

    def ask(self, verb: str, *arguments: Any) -> Any:
        """The child's answer, of whichever child."""
        with self._lock:
            if self._child is None:
                self._check_workers()
            while True:
                if self._closed:
                    raise BackendError("the model was closed; load it again.")
                try:
                    child = self._child or self._start_again()
                    found = child.ask(verb, *arguments)
                except ChildGoneError as gone:
                    self._drop()
                    self._ends += 1
                    if self._ends > _MOST_ENDS:
                        raise self._end(gone) from None
                    self._await_workers(gone)
                else:
                    self._ends = 0
                    return found

    def _start_again(self) -> Child:
        """Another child, with the models loaded and all caches filled."""
        child = self._child = Child()
        try:
            for number, loading in self._models.items():
                child.ask("load", number, *vars(loading).values())
            for number, context in sorted(self._contexts.items()):
                child.ask("open", number, context.opening)
            for number, context in sorted(
                self._contexts.items()
            ):  # an assistant's resets its target's: open both first
                for verb, *arguments in context.replay():
                    child.ask(verb, number, *arguments)
        except BaseException:  # an interrupt, too: half of a child answers nothing
            self._drop()
            raise
        log.warning("The workers are there again, and the answer goes on.", extra={"waits": False})
        return child

    def _await_workers(self, gone: ChildGoneError) -> None:
        """Wait until all workers answer. Raises :class:`WorkerError` if one stays away."""
        until, told = time.monotonic() + PATIENCE_S, False
        while not self._closed:
            try:
                self._check_workers()
            except WorkerError as error:
                if time.monotonic() > until:
                    raise WorkerError(f"{error} The conversation is kept: ask again when the worker is back.") from None
                if not told:
                    log.warning(
                        f"A worker went away: {error} The conversation is kept, and waits for it.",
                        extra={"waits": True},
                    )
                    told = True
                time.sleep(RETRY_S)
            else:
                if not told:
                    log.warning(
                        f"The connection to the workers broke ({gone}). The conversation is kept.",
                        extra={"waits": True},
                    )
                return

    def _check_workers(self) -> None:
        for address in self.workers:
            probe(address, measured=False)

    def _end(self, gone: ChildGoneError) -> BackendError:
        """The error for a child that ended, which names a worker that is missing."""
        try:
            self._check_workers()
        except WorkerError as error:
            return error
        return BackendError(f"the process that holds the model ended ({gone}); see its log with --verbose.")

    def _drop(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None

    def close(self) -> None:
        """End the child. May be called twice."""
        self._closed = True
        child = self._child
        if child is not None:
            child.close()
