"""Jobs → HTTP answers: server-sent events, or one body. A client that goes away ends its job."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator
from contextlib import aclosing, contextmanager
from typing import TypeVar

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from localspec.serve.dialects.job import Begun, Done, Note, Sent, View
from localspec.serve.problem import RequestError
from localspec.serve.scheduler import Job

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
_Result = TypeVar("_Result")


async def gone(receive: Receive) -> None:
    """Return when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """The events of ``job`` in the form of ``view``. ``ping_s``: longest silence in seconds."""

    def __init__(self, job: Job, view: View, path: str, ping_s: float) -> None:
        super().__init__()
        self._job, self._view, self._path, self._ping_s = job, view, path, ping_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            # Headers leave before the queue and the prefill: a client's time limit may be shorter than they are.
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await _unless_gone(receive, self._job, self._send_all(send))
        finally:
            self._job.cancel()

    async def _send_all(self, send: Send) -> None:
        async with aclosing(self._parts()) as parts:
            async for data in parts:
                await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _parts(self) -> AsyncGenerator[bytes, None]:
        while True:
            try:
                with _time_limit(self._ping_s):
                    event = await self._job.events.get()
            except asyncio.TimeoutError:
                ping = self._view.ping() if self._job.begun else None
                yield _text([ping]) if ping else _comment("ping")
                continue
            if event is None:
                yield _text(self._view.end())
                return
            if isinstance(event, RequestError):
                yield _text(self._view.fail(event.body(self._path)))
                return
            data = _comment(event.text) if isinstance(event, Note) else _text(self._view.feed(event))
            if data:
                yield data


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise :class:`asyncio.TimeoutError` where the block takes longer, as :func:`asyncio.wait_for`.

    That makes a task of its own each time before Python 3.12, for every token of every stream.
    """
    task, late = asyncio.current_task(), False
    assert task is not None

    def end() -> None:
        nonlocal late
        late = True
        task.cancel()

    timer = asyncio.get_running_loop().call_later(seconds, end)
    try:
        yield
    except asyncio.CancelledError:
        if not late:
            raise
        if sys.version_info >= (3, 11):
            task.uncancel()
        raise asyncio.TimeoutError from None
    finally:
        timer.cancel()


async def whole_answer(job: Job, view: View, receive: Receive) -> Response:
    """The answer in one body. Raises the job's :class:`RequestError`."""

    async def collect() -> list[Done]:
        done = []
        while (event := await job.events.get()) is not None:
            if isinstance(event, RequestError):
                raise event
            if isinstance(event, Begun):
                list(view.feed(event))  # the name of the model
            elif isinstance(event, Done):
                done.append(event)
        return sorted(done, key=lambda one: one.index)

    try:
        done = await _unless_gone(receive, job, collect())
    finally:
        job.cancel()
    return json_response({} if done is None else view.whole(done))


async def _unless_gone(receive: Receive, job: Job, work: Coroutine[None, None, _Result]) -> _Result | None:
    """The result of ``work``; None, and the work is cancelled, if the client goes away first."""
    task, watch = asyncio.ensure_future(work), asyncio.ensure_future(gone(receive))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        return await task if task.done() else None
    finally:
        # The job first: before Python 3.12 a wait_for() that has just ended keeps a cancelled task going, until the
        # job's last event ends it.
        job.cancel()
        for one in (task, watch):
            one.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


def json_response(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON body."""
    return Response(msgspec.json.encode(body), status, headers, "application/json")


def problem_response(problem: RequestError, path: str) -> Response:
    """The body of an error, in the form of the interface of ``path``."""
    headers = {"retry-after": str(problem.retry_after)} if problem.retry_after else {}
    if problem.status == 401:
        headers["www-authenticate"] = "Bearer"
    return json_response(problem.body(path), problem.status, headers)


def _comment(text: str) -> bytes:
    return f": {text}\n\n".encode()


def _text(events: Iterable[Sent]) -> bytes:
    found = b""
    for event in events:
        name = b"" if event.name is None else f"event: {event.name}\n".encode()
        data = event.data.encode() if isinstance(event.data, str) else msgspec.json.encode(event.data)
        found += name + b"data: " + data + b"\n\n"
    return found
