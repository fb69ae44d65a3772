"""One thread that runs the async verbs of an engine, so that they do not block the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress

from localspec.generation.lock import EngineLock, Use
from localspec.generation.result import Chunk


class Background:
    """Runs streams of the engine that ``lock`` guards, one after another, in order of the calls."""

    def __init__(self, lock: EngineLock) -> None:
        self._lock = lock
        self._pool: ThreadPoolExecutor | None = None

    async def stream(
        self, cancel: threading.Event | None, run: Callable[[Use], Generator[Chunk, None, None]]
    ) -> AsyncGenerator[Chunk, None]:
        """Yield the chunks of ``run(use)``, which runs in the thread and does not wait for the consumer.

        It takes its place in the engine's queue at once. Cancelling the task or closing the generator ends the use
        between two passes.
        """
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[Chunk | None]()
        use = self._lock.enqueue(cancel)

        def put(item: Chunk | None) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, item)

        def pump() -> None:
            try:
                with closing(run(use)) as chunks:
                    for chunk in chunks:
                        put(chunk)
            finally:
                self._lock.leave(use)  # the request may have been refused

        def done(_: Future[None]) -> None:
            with suppress(RuntimeError):  # the event loop was closed
                put(None)

        self._pool = self._pool or ThreadPoolExecutor(1, "localspec")
        future = self._pool.submit(pump)
        future.add_done_callback(done)
        try:
            while (chunk := await queue.get()) is not None:
                yield chunk
            future.result()
        finally:
            self._lock.cancel(use)
            future.cancel()

    def close(self) -> None:
        """End the thread once its last call has ended. Calls that were not begun raise as on a closed engine."""
        if self._pool is not None:
            self._pool.shutdown(wait=False)
