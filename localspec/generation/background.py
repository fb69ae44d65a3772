"""One thread that runs the async verbs of an engine, so that they do not block the event loop."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import closing, suppress
from queue import SimpleQueue

from localspec.generation.lock import EngineLock, Use
from localspec.generation.result import Chunk

_Jobs = SimpleQueue[Callable[[], None] | None]


class Background:
    """Runs streams of the engine that ``lock`` guards, one after another, in order of the calls."""

    def __init__(self, lock: EngineLock) -> None:
        self._lock = lock
        self._jobs: _Jobs = SimpleQueue()
        self._started = False

    async def stream(
        self, cancel: threading.Event | None, run: Callable[[Use], Generator[Chunk, None, None]]
    ) -> AsyncGenerator[Chunk, None]:
        """Yield the chunks of ``run(use)``, which runs in the thread and does not wait for the consumer.

        It takes its place in the engine's queue at once. Cancelling the task or closing the generator ends the use
        between two passes.
        """
        import asyncio  # slow to import

        loop, chunks = asyncio.get_running_loop(), asyncio.Queue[Chunk | BaseException | None]()
        use = self._lock.enqueue(cancel)

        def put(item: Chunk | BaseException | None) -> None:
            loop.call_soon_threadsafe(chunks.put_nowait, item)

        def job() -> None:
            end: BaseException | None = None
            try:
                with closing(run(use)) as found:
                    for chunk in found:
                        put(chunk)
            except BaseException as error:  # raised where the stream is read
                end = error
            self._lock.leave(use)  # also where the request was refused
            with suppress(RuntimeError):  # the event loop was closed
                put(end)

        self._start()
        self._jobs.put(job)
        try:
            while (chunk := await chunks.get()) is not None:
                if isinstance(chunk, BaseException):
                    raise chunk
                yield chunk
        finally:
            self._lock.cancel(use)

    def _start(self) -> None:
        if not self._started:
            self._started = True
            # A daemon: closing the engine at exit ends what it runs; a thread that is joined before could wait forever.
            threading.Thread(target=_work, args=(self._jobs,), name="localspec", daemon=True).start()

    def close(self) -> None:
        """End the thread after its last call. Calls that were not begun raise as on a closed engine."""
        self._jobs.put(None)


def _work(jobs: _Jobs) -> None:
    while (job := jobs.get()) is not None:
        job()
        del job  # it refers to the engine, which may be collected while the thread waits
