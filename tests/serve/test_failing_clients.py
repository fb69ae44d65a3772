"""Laws of clients that fail: none holds the engine, a place or its connection, and others are answered meanwhile."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
from typing import Any

import pytest

from localspec.testing import ScriptedVocabulary, scripted_engine
from tests.helpers.callers import LOGITS, N, until
from tests.helpers.server import HELLO, Running, engine_of, replying, serving

#: Long enough to fill the system's buffers: the probabilities of 20 tokens for each of 3,000.
LONG: dict[str, Any] = {"messages": HELLO, "max_tokens": 3000, "logprobs": True, "top_logprobs": 20, "temperature": 0}


def request_of(body: Any) -> bytes:
    data = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


def wire(server: Running, body: Any) -> socket.socket:
    """A connection with a small buffer, over which a request was sent."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    found.connect(("127.0.0.1", server.port))
    found.sendall(request_of(body))
    return found


def connections(server: Running) -> int:
    return len(server.server.server_state.connections)


@pytest.mark.parametrize("stream", [False, True])
def test_a_slow_reader_is_closed(monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    """With its answer, streamed or whole; the engine and its place are free as soon as the answer is made."""
    monkeypatch.setattr("localspec.serve.run._SLOW_READER_S", 0.4)
    with serving(scripted_engine(LOGITS, vocabulary=ScriptedVocabulary(N))) as server:
        with wire(server, {**LONG, "stream": stream}) as slow:
            assert slow.recv(1) == b"H"
            until(lambda: connections(server) == 0)
            assert server.chat(max_tokens=2).status == 200
        assert server.service.scheduler.turns.running == 0


def test_a_reader_that_pauses_gets_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the time that it has."""
    monkeypatch.setattr("localspec.serve.run._SLOW_READER_S", 30.0)
    engine = scripted_engine(LOGITS, vocabulary=ScriptedVocabulary(N))
    with serving(engine) as server, wire(server, {**LONG, "stream": True}) as slow:
        until(lambda: len(server.jobs) == 1)
        seen = b""
        while not seen.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"):
            data = slow.recv(2**20)
            assert data
            seen = seen[-100:] + data


@pytest.mark.parametrize("how", ["half", "reset"])
def test_a_connection_that_ends_halfway_ends_its_work(how: str) -> None:
    """A client that sends no more, and one whose system says that it is gone."""
    with serving(engine_of(replying("x" * 3000), drafts=False)) as server:
        connection = wire(server, {"messages": HELLO, "temperature": 0, "stream": True})
        assert connection.recv(1) == b"H"
        if how == "half":
            connection.shutdown(socket.SHUT_WR)
        else:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        until(lambda: connections(server) == 0 and server.service.scheduler.turns.running == 0)
        connection.close()
        assert server.chat(max_tokens=1).status == 200


def test_a_client_that_is_killed_ends_its_work() -> None:
    """In the middle of its stream."""
    program = """
import socket, sys, time
wire = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
wire.sendall(sys.stdin.buffer.read())
print(wire.recv(1), flush=True)
time.sleep(60)
"""
    with serving(engine_of(replying("x" * 3000), drafts=False)) as server:
        command = [sys.executable, "-c", program, str(server.port)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
            assert client.stdin
            assert client.stdout
            client.stdin.write(request_of({"messages": HELLO, "temperature": 0, "stream": True}))
            client.stdin.close()
            assert client.stdout.readline() == b"b'H'\n"
            client.kill()
        until(lambda: connections(server) == 0 and server.service.scheduler.turns.running == 0)
        assert server.chat(max_tokens=1).status == 200


def test_vanished_machines_are_noticed() -> None:
    """The system is asked to look for them; no test can take a machine off the network."""
    with serving(engine_of(replying("x"))) as server, socket.create_connection(("127.0.0.1", server.port)):
        until(lambda: connections(server) == 1)
        (protocol,) = server.server.server_state.connections
        found: Any = protocol.transport.get_extra_info("socket")  # type: ignore[union-attr]
        assert found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
