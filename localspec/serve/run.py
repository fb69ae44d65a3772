"""Run the server until a signal: uvicorn with limits for slow and many clients, and an end that lets answers finish."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from localspec.errors import UsageError

#: Seconds in which the headers of a request must arrive.
_HEADERS_S = 20.0
#: Bytes of a request's headers.
_MOST_HEADERS = 64 * 2**10
#: Open connections; more are closed at once. Below the usual limit of 1,024 open files.
_MOST_CONNECTIONS = 512
#: Seconds that a client may keep an answer waiting that it does not read, and that one may be silent which is gone.
_SLOW_READER_S = 60.0
#: Seconds in which clients read the errors of answers that were stopped at the end.
_LAST_S = 2


@dataclass(frozen=True)
class Ending:
    """The end of the server. ``refuse`` is called at once, ``stop`` after ``grace`` seconds."""

    refuse: Callable[[], None]
    stop: Callable[[], None]
    grace: float


class Protocol(H11Protocol):
    """HTTP/1.1 that closes connections beyond a number of them, and those that neither send nor read what they should.

    A reader that is too slow holds a buffer of 64 KiB for a while, and never the engine.
    """

    _timer: asyncio.TimerHandle | None = None
    _reader: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]  # as in uvicorn
        if len(self.connections) > _MOST_CONNECTIONS:
            self.transport.abort()
            return
        _watch(transport.get_extra_info("socket"))
        self._expect()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reader = self.loop.call_later(_SLOW_READER_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._do_not_wait()

    def _do_not_wait(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            self._reader = None

    def data_received(self, data: bytes) -> None:
        if self._timer is None and self._between_requests:
            self._expect()
        super().data_received(data)
        if not self._between_requests:
            self._expect_nothing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        self._do_not_wait()
        super().connection_lost(exc)

    @property
    def _between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _expect(self) -> None:
        self._timer = self.loop.call_later(_HEADERS_S, self._late)

    def _expect_nothing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if self._between_requests:
            self.transport.abort()


def _watch(connection: socket.socket) -> None:
    """Let the system notice a client whose machine is gone, where it can: nothing else tells of that."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {"TCP_KEEPIDLE": _SLOW_READER_S, "TCP_KEEPINTVL": 10, "TCP_USER_TIMEOUT": 1000 * _SLOW_READER_S}
    for name, value in options.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), max(1, round(value)))


class Server(uvicorn.Server):
    """uvicorn's server. Its signals do not raise again at the end, so that the exit code is 0."""

    def __init__(self, config: uvicorn.Config, ending: Ending) -> None:
        super().__init__(config)
        self._ending = ending

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        if threading.current_thread() is not threading.main_thread():  # where signals cannot be handled
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ending.refuse()
        timer = asyncio.get_running_loop().call_later(self._ending.grace, self._ending.stop)
        await super().shutdown(sockets)
        timer.cancel()


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises :class:`UsageError` for an address that cannot be had."""
    name = host.strip("[]")
    try:
        family = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((name, port), family=family, backlog=256)
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number and number > 0 else str(error)
        raise UsageError(f"cannot listen on {host}:{port}: {reason}; choose another with --host or --port.") from error


def make_server(app: ASGIApp, ending: Ending) -> Server:
    """A server of ``app`` that runs until SIGINT or SIGTERM; a second SIGINT does not wait for answers."""
    options: dict[str, Any] = {"log_config": None, "access_log": False, "server_header": False, "lifespan": "off"}
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=round(ending.grace) + _LAST_S,
        h11_max_incomplete_event_size=_MOST_HEADERS,
        **options,
    )
    return Server(config, ending)
