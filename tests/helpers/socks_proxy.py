"""A SOCKS5 proxy (RFC 1928) on this machine, for connections without a password."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hosts: list[str] = []


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        """Read the greeting and the request, connect, and pass bytes both ways."""
        _, methods = self.rfile.read(2)
        self.rfile.read(methods)
        self.request.sendall(b"\x05\x00")
        _, _, _, kind = self.rfile.read(4)
        if kind == 3:
            host = self.rfile.read(self.rfile.read(1)[0]).decode()
        else:
            host = socket.inet_ntop(socket.AF_INET if kind == 1 else socket.AF_INET6, self.rfile.read(4 * kind))
        port = int.from_bytes(self.rfile.read(2), "big")
        self.server.hosts.append(f"{host}:{port}")
        with socket.create_connection((host, port)) as there:
            self.request.sendall(b"\x05\x00\x00\x01" + bytes(6))
            back = threading.Thread(target=_pump, args=(there, self.request), daemon=True)
            back.start()
            _pump(self.request, there)
            back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def socks_proxy() -> Iterator[tuple[str, list[str]]]:
    """The address of a running proxy, and the hosts it has connected to."""
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"socks5://127.0.0.1:{server.server_address[1]}", server.hosts
        finally:
            server.shutdown()
            thread.join()
