"""One generation at a time, in the thread of its caller or, for async verbs, in a thread of the engine."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import ExitStack, nullcontext

from localspec.generation.background import Background
from localspec.generation.generation import Generation
from localspec.generation.kept import KeptCaches
from localspec.generation.lock import EngineLock, Use
from localspec.generation.loop import drive
from localspec.generation.pair import Measurement
from localspec.generation.result import Chunk
from localspec.generation.task import Tasks


class Alone:
    """Runs generations in the order in which they asked for the engine that ``lock`` guards."""

    def __init__(
        self, lock: EngineLock, tasks: Tasks, measurement: Measurement | None, kept: KeptCaches | None = None
    ) -> None:
        """``kept``: caches of earlier conversations."""
        self._lock, self._tasks, self._measurement = lock, tasks, measurement
        self._kept = kept or KeptCaches()
        self._background = Background(lock)

    def stream(self, generation: Generation, use: Use | None = None) -> Generator[Chunk, None, None]:
        """Yield the chunks of ``generation`` when ``use``, or a new one, is first in the queue."""
        use, requests = use or self._lock.enqueue(generation.task.request.cancel), ExitStack()
        try:
            if self._lock.wait(use):
                requests.enter_context(self._measurement.request() if self._measurement else nullcontext())
                if generation.setup.chunk is not None:
                    generation.pair.prefill.use_chunk(generation.setup.chunk)
                self._kept.exchange(generation.pair, generation.task.tokens)
                for chunk in drive(generation.pair.target, generation.run(), use.cancelled):
                    if chunk.completion is not None:
                        break
                    self._lock.suspend(use)
                    yield chunk
                    self._lock.resume(use)
            else:
                chunk = generation.give_up()
        finally:
            requests.close()
            if not use.lost:
                self._reply(generation)
            self._lock.leave(use)
        yield chunk

    def astream(self, prepare: Callable[[], Generation], cancel: threading.Event | None) -> AsyncGenerator[Chunk, None]:
        """:meth:`stream` for an event loop. ``prepare`` makes the generation, in the thread that runs it."""
        return self._background.stream(cancel, lambda use: self.stream(prepare(), use))

    def _reply(self, generation: Generation) -> None:
        """Store the reply in the conversation, also one that was cut short, unless it had not begun."""
        answer, chat, conversation = generation.answer, generation.task.chat, self._tasks.conversation
        began = answer.tokens or answer.finish_reason not in (None, "cancelled")
        if chat and conversation and began:
            calls, reusable = generation.tool_calls, generation.reusable
            conversation.add_reply(chat, answer.text, answer.tokens, reusable=reusable, calls=calls)

    def forget(self) -> None:
        """Drop the caches of earlier conversations."""
        self._kept.clear()

    def stop(self) -> None:
        """Do nothing: stopping the lock ends what runs and what waits."""

    def close(self) -> None:
        """End the thread of the async verbs after its last call."""
        self._background.close()
