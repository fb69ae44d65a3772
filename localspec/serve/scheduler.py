"""Requests → events of their answers. asyncio only queues here; an engine's own thread does the native work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import aclosing, suppress
from typing import Any

from localspec.engine import Engine
from localspec.errors import LocalspecError
from localspec.generation.prompt import Prepared
from localspec.generation.result import Chunk, Completion
from localspec.generation.stats import Stats
from localspec.media.source import Image
from localspec.serve.catalog import Model
from localspec.serve.dialects.job import Ask, Begun, Delta, Done, Event, Note, Prompt, Run
from localspec.serve.engines import Engines
from localspec.serve.problem import RequestError, problem_of
from localspec.serve.remote import addresses, fetched
from localspec.serve.turns import Turns

_LEFT = RequestError(499, "the client went away.")
_log = logging.getLogger("localspec.serve")


class Job:
    """One request on its way. Its events end with an error, or with None."""

    def __init__(self, ask: Ask, model: Model, place: asyncio.Future[None]) -> None:
        self.ask, self.model, self.place = ask, model, place
        self.events = asyncio.Queue[Event | RequestError | None]()
        self.stats = Stats()
        self.begun: Begun | None = None
        self.prompts: Sequence[Prepared] = ()
        self.done: list[Done] = []
        self._pieces: dict[int, bytes] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self, run: Coroutine[None, None, None], ended: Callable[[asyncio.Task[None]], None]) -> None:
        """Start ``run``, which makes the events. ``ended`` is called at its end, also if it never began."""
        self._task = asyncio.ensure_future(run)
        self._task.add_done_callback(ended)

    def cancel(self) -> None:
        """End the work between two passes."""
        if self._task is not None:
            self._task.cancel()

    def piece(self, token: int) -> bytes:
        """Bytes of a token in a log probability or at the end of an answer, also when its engine is freed."""
        return self._pieces.get(token, b"")

    def keep_pieces(self, engine: Engine, tokens: Iterable[int]) -> None:
        """Look up the bytes of tokens."""
        for token in tokens:
            if token not in self._pieces:
                self._pieces[token] = engine.token_bytes(token)

    def begin(self, engine: Engine, prompts: Sequence[Prepared]) -> None:
        """Take the prompts as the engine has them."""
        self.prompts = prompts
        pairs = zip(self.ask.prompts, prompts, strict=True)
        texts = (_text(engine, asked, prompt) for asked, prompt in pairs if prompt.chat is None)
        self.put(Begun(self.model.id, sum(len(prompt.tokens) for prompt in prompts), tuple(texts)))

    def put(self, event: Event) -> None:
        """Add an event."""
        if isinstance(event, Begun):
            self.begun = event
        elif isinstance(event, Done):
            self.done.append(event)
            self.stats.add(event.completion.stats)
        self.events.put_nowait(event)


class Scheduler:
    """Runs requests in turns between clients, some at the same time; each has the engine of its model.

    ``finished`` is told of each request that ended, with an error or without. ``fetch`` gets pictures by their web
    addresses, where that is allowed.
    """

    def __init__(
        self,
        engines: Engines,
        turns: Turns,
        finished: Callable[[Job, RequestError | None], None],
        fetch: Callable[[str], Image] | None = None,
    ) -> None:
        self.engines, self.turns, self._finished, self._fetch = engines, turns, finished, fetch

    async def submit(self, ask: Ask, client: str) -> Job:
        """Check a request and queue it. Raises :class:`RequestError` if it cannot be answered or the queue is full."""
        model = await self.model(ask.model)
        ask = await self.with_pictures(ask)
        engine = self.engines.loaded(model)
        prompts = await asyncio.to_thread(prepare, engine, ask) if engine else ()
        job = Job(ask, model, self.turns.enter(f"{client} {ask.user}"))
        if engine:
            job.begin(engine, prompts)
        job.start(self._run(job), lambda task: self._ended(job, task))
        return job

    async def with_pictures(self, ask: Ask) -> Ask:
        """The request with the pictures at its web addresses. Raises :class:`RequestError`."""
        if not addresses(ask):
            return ask
        try:
            return await asyncio.to_thread(fetched, ask, self._fetch)
        except LocalspecError as error:
            raise known(error) from error

    async def model(self, name: str | None) -> Model:
        """The model of a name, found in a thread: the disk may be slow. Raises :class:`RequestError`."""
        return await asyncio.to_thread(self.engines.catalog.find, name)

    async def engine(self, name: str | None, client: str) -> Engine:
        """The engine of a model, for a look at its vocabulary; loaded in turn if need be."""
        model = await self.model(name)
        if engine := self.engines.loaded(model):
            return engine
        place = self.turns.enter(client)
        try:
            await place
            return await self.engines.get(model, lambda text: None)
        finally:
            self.turns.leave(place)

    async def _run(self, job: Job) -> None:
        await job.place
        await self._answer(job)

    def _ended(self, job: Job, task: asyncio.Task[None]) -> None:
        error = _LEFT if task.cancelled() else task.exception()
        problem = known(error) if error else None
        self.turns.leave(job.place)
        if not self.turns.running:
            self.engines.idle()
        self._finished(job, problem)
        job.events.put_nowait(problem)

    async def _answer(self, job: Job) -> None:
        async with self.engines.use(job.model, lambda text: job.put(Note(text))) as engine:
            await self._answer_with(engine, job)

    async def _answer_with(self, engine: Engine, job: Job) -> None:
        if job.begun is None:
            job.begin(engine, await asyncio.to_thread(prepare, engine, job.ask))
        runs = job.ask.runs(job.prompts)
        spare = self.turns.spare(len(job.prompts) * job.ask.n - 1)
        tasks = [asyncio.ensure_future(self._make(engine, job, runs, place)) for place in (None, *spare)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for place in spare:
                self.turns.leave(place)

    async def _make(self, engine: Engine, job: Job, runs: Iterator[Run], place: asyncio.Future[None] | None) -> None:
        """Make answers of ``runs``; with a ``place`` that is not the request's own until others wait for it."""
        for run in runs:
            await _make_one(engine, job, *run)
            if place is not None and self.turns.waiting:
                break
        if place is not None:
            self.turns.leave(place)


async def _make_one(engine: Engine, job: Job, index: int, prompt: Prepared, options: dict[str, Any]) -> None:
    done, thought = None, 0
    async with aclosing(_chunks(engine, prompt, {**options, "progress": _progress(job)})) as chunks:
        async for chunk in chunks:
            thought += len(chunk.tokens) if chunk.channel == "thought" else 0
            for one in chunk.logprobs:
                job.keep_pieces(engine, (one.token, *(token for token, _ in one.top)))
            job.put(Delta(index, chunk))
            done = chunk.completion
    whole = _whole(done)
    if options.get("stop"):
        job.keep_pieces(engine, whole.tokens)
    job.put(Done(index, whole, thought))


def _whole(done: Completion | None) -> Completion:
    if done is None or done.finish_reason == "cancelled":
        raise RequestError(503, "the answer was stopped by the server.", code="stopping", retry_after=10)
    return done


def _progress(job: Job) -> Callable[[int, int], None]:
    """A callback for the engine's thread that puts notes about the prefill."""
    loop = asyncio.get_running_loop()

    def progress(done: int, total: int) -> None:
        with suppress(RuntimeError):  # the loop was closed
            loop.call_soon_threadsafe(job.put, Note(f"prefill {done}/{total}"))

    return progress


def _chunks(engine: Engine, prompt: Prepared, options: Any) -> AsyncGenerator[Chunk, None]:
    return (engine.astream if prompt.chat is None else engine.astream_chat)(prompt, **options)


def _text(engine: Engine, asked: Prompt, prompt: Prepared) -> str:
    return asked if isinstance(asked, str) else engine.detokenize(prompt.tokens)


def prepare(engine: Engine, ask: Ask) -> list[Prepared]:
    """The prompts as tokens. Raises :class:`RequestError` for everything that can be wrong with a request."""
    try:
        return [engine.prepare(prompt, **ask.options) for prompt in ask.prompts]
    except Exception as error:
        raise known(error) from error


def known(error: BaseException) -> RequestError:
    """The error for the client. An unexpected one is also shown on standard error."""
    problem = problem_of(error)
    if not isinstance(error, (RequestError, LocalspecError)):
        _log.error("unexpected error", exc_info=error)
    return problem
