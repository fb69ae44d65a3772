"""A worker that speaks ggml's RPC protocol and computes nothing."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Thread

from localspec.machines.address import Address
from localspec.machines.wire import VERSION, Command

_PAIR = struct.Struct("<QQ")


@dataclass(frozen=True)
class FakeWorker:
    """Answers of a worker. ``after_hello``: bytes sent in place of one to HELLO. ``silent``: it gives none."""

    version: tuple[int, int, int] = VERSION
    devices: int = 1
    free: int = 2 << 30
    after_hello: bytes | None = None
    silent: bool = False
    buffers: bool = True

    def answer(self, command: int, body: bytes) -> bytes | None:
        """The body of the response; None for commands without one."""
        silent = (Command.SET_TENSOR, Command.BUFFER_CLEAR, Command.GRAPH_COMPUTE, Command.FREE_BUFFER)
        if command in silent:
            return None
        answers: dict[int, Callable[[], bytes]] = {
            Command.HELLO: lambda: bytes(self.version) + bytes(25),
            Command.DEVICE_COUNT: lambda: struct.pack("<I", self.devices),
            Command.GET_DEVICE_MEMORY: lambda: _PAIR.pack(self.free, 2 * self.free),
            Command.ALLOC_BUFFER: lambda: _PAIR.pack(4096 if self.buffers else 0, struct.unpack("<IQ", body)[1]),
            Command.BUFFER_GET_BASE: lambda: struct.pack("<Q", 1 << 20),
            Command.GET_TENSOR: lambda: bytes(_PAIR.unpack(body[-16:])[1]),
        }
        return answers[command]()


@contextmanager
def serving(worker: FakeWorker, port: int = 0) -> Iterator[Address]:
    """Serve on the loopback address, one client at a time, within the block."""
    listener = socket.create_server(("127.0.0.1", port))
    Thread(target=_serve, args=(worker, listener), daemon=True).start()
    try:
        yield Address("127.0.0.1", listener.getsockname()[1])
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _serve(worker: FakeWorker, listener: socket.socket) -> None:
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            with client, suppress(OSError, EOFError):
                _serve_client(worker, client)


def _serve_client(worker: FakeWorker, client: socket.socket) -> None:
    while True:
        command, size = struct.unpack("<BQ", _read(client, 9))
        body = _read(client, size)
        if worker.silent:
            continue
        if worker.after_hello is not None:
            client.sendall(worker.after_hello)
            return
        answer = worker.answer(command, body)
        if answer is not None:
            client.sendall(struct.pack("<Q", len(answer)) + answer)


def _read(client: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = client.recv(size - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)
