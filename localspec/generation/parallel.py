"""One thread that runs the generations of an engine at the same time, for callers in any thread or event loop."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import nullcontext, suppress
from queue import Empty, SimpleQueue
from time import monotonic, sleep

from localspec.errors import BackendError
from localspec.generation.generation import Generation
from localspec.generation.lock import EngineLock, Use
from localspec.generation.pair import Measurement
from localspec.generation.result import Chunk
from localspec.generation.scheduler import Scheduler
from localspec.generation.slots import Job, Stops

#: Seconds that the thread of a measurement needs to begin a pass.
_BREATH_S = 0.001
#: Seconds of work without a gap, after which a measurement of the pair may make a pass.
_NO_GAP_S = 0.5
_CLOSED = "the engine was closed; load it again."


class Parallel:
    """Runs jobs in a thread of its own. All of them together are one use of the engine that ``lock`` guards.

    The thread does not wait for the consumers of chunks.
    """

    def __init__(self, lock: EngineLock, scheduler: Scheduler, measurement: Measurement | None) -> None:
        self._lock, self.scheduler, self._measurement = lock, scheduler, measurement
        self._inbox: SimpleQueue[Job | None] = SimpleQueue()
        self._stops = Stops()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def stream(self, generation: Generation) -> Generator[Chunk, None, None]:
        """Yield the chunks of ``generation``; closing the generator ends it after its pass."""
        chunks: SimpleQueue[Chunk | BaseException] = SimpleQueue()
        job = self._submit(generation, chunks.put)
        try:
            while True:
                chunk = _chunk(chunks.get())
                yield chunk
                if chunk.completion is not None:
                    return
        finally:
            job.stopped = True

    async def astream(
        self, prepare: Callable[[], Generation], cancel: threading.Event | None
    ) -> AsyncGenerator[Chunk, None]:
        """:meth:`stream` for an event loop. ``prepare`` makes the generation, in another thread; it has ``cancel``."""
        import asyncio  # slow to import

        loop, chunks = asyncio.get_running_loop(), asyncio.Queue[Chunk | BaseException]()

        def deliver(found: Chunk | BaseException) -> None:
            with suppress(RuntimeError):  # the event loop was closed
                loop.call_soon_threadsafe(chunks.put_nowait, found)

        self._lock.check()
        job = self._submit(await asyncio.to_thread(prepare), deliver)
        try:
            while True:
                chunk = _chunk(await chunks.get())
                yield chunk
                if chunk.completion is not None:
                    return
        finally:
            job.stopped = True

    def forget(self) -> None:
        """Drop the caches of conversations that have no slot."""
        self.scheduler.kept.clear()

    def stop(self) -> None:
        """End every job that runs or waits after its pass, from any thread."""
        self._stops.count += 1

    def close(self) -> None:
        """End the thread after its last job. Jobs that were not begun raise as on a closed engine."""
        self._closed = True
        self._inbox.put(None)

    def _submit(self, generation: Generation, deliver: Callable[[Chunk | BaseException], None]) -> Job:
        self._lock.check()
        if self._thread is threading.current_thread():
            raise BackendError("a callback of a running call cannot use the engine; use it after that call.")
        job = Job(generation, deliver, self._stops)
        with self._starting:
            if self._thread is None:
                # A daemon, as in Background.
                self._thread = threading.Thread(target=self._work, name="localspec", daemon=True)
                self._thread.start()
        self._inbox.put(job)
        if self._closed:  # perhaps after the thread has looked for the last time
            deliver(BackendError(_CLOSED))
        return job

    # In the thread.

    def _work(self) -> None:
        while (job := self._inbox.get()) is not None:
            self.scheduler.add(job)
            del job  # it refers to the engine, which may be collected while the thread waits
            while self.scheduler.busy:
                try:
                    self._run_once()
                except BaseException as error:  # the engine was closed, or a mistake here: nobody may wait forever
                    self.scheduler.end(error)
        with suppress(Empty):
            while True:
                job = self._inbox.get_nowait()
                if job is not None:
                    job.deliver(BackendError(_CLOSED))

    def _run_once(self) -> None:
        """Use the engine until nothing is left to do, or until another call waits for it."""
        use = self._lock.enqueue(stoppable=False)
        try:
            if self._lock.wait(use):
                while self._steps(use):
                    sleep(_BREATH_S)
            if use.cancelled():
                self.scheduler.end(BackendError(_CLOSED))
        finally:
            self._lock.leave(use)

    def _steps(self, use: Use) -> bool:
        """Make steps until nothing is left to do; returns True if it is time for a pass of the measurement before."""
        since, measurement = monotonic(), self._measurement
        with measurement.request() if measurement else nullcontext():
            while self.scheduler.busy and not use.cancelled():
                admit = not self._lock.contended()
                if admit:
                    self._take_new()
                elif not self.scheduler.running:
                    break
                self.scheduler.step(admit=admit)
                if measurement and monotonic() - since > _NO_GAP_S:
                    return True
        return False

    def _take_new(self) -> None:
        with suppress(Empty):
            while (job := self._inbox.get_nowait()) is not None:
                self.scheduler.add(job)
            self._inbox.put(None)  # the end, after these


def _chunk(found: Chunk | BaseException) -> Chunk:
    """Return a delivered chunk, or raise the error that took its place."""
    if isinstance(found, BaseException):
        raise found
    return found
