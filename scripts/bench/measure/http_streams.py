"""Read several event streams of a server at the same time, in one thread, and note when each piece of text arrived."""

from __future__ import annotations

import json
import selectors
import socket
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

#: Pieces that arrive within so many seconds are one arrival: a reader sees no pause between them.
_TOGETHER_S = 0.002
_SILENT_S = 300.0


@dataclass
class Stream:
    """The answer to one request: bytes as they came. Times are those of ``time.perf_counter``."""

    sent: float
    data: bytearray = field(default_factory=bytearray)
    _ends: list[int] = field(default_factory=list)
    _times: list[float] = field(default_factory=list)

    def add(self, piece: bytes) -> None:
        self.data += piece
        self._ends.append(len(self.data))
        self._times.append(time.perf_counter())

    @property
    def over(self) -> bool:
        """True once the last chunk is there."""
        return self.data.endswith(b"\r\n0\r\n\r\n")

    def answer(self) -> Answer:
        """Parse what came. Exits if it is no answer."""
        texts, times, tokens, ended, last = list[str](), list[float](), 0, False, {}
        for event, at in self._events():
            last = event
            tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
            choices = event.get("choices") or ()
            ended = ended or any(choice.get("finish_reason") == "stop" for choice in choices)
            text = "".join(map(_text, choices))
            if text:
                texts.append(text)
                times.append(at)
        tokens = tokens or len(texts)  # llama-cpp-python's server tells no usage, and sends each token
        if not tokens:
            raise SystemExit(f"the server gave no answer: {bytes(self.data[:300])!r} ... {last}")
        return Answer("".join(texts), tokens, ended, self.sent, times)

    def _events(self) -> list[tuple[dict[str, Any], float]]:
        start, found = self.data.find(b"\r\n\r\n") + 4, list[tuple[dict[str, Any], float]]()
        while (line := self.data.find(b"\r\n", start)) > 0 and (size := int(self.data[start:line], 16)):
            end = line + 2 + size
            at = self._times[bisect_left(self._ends, end)]
            rows = bytes(self.data[line + 2 : end]).split(b"\n")
            found += [(json.loads(row[6:]), at) for row in rows if row.startswith(b"data: {")]
            start = end + 2
        return found


@dataclass(frozen=True)
class Answer:
    """``times``: when each piece of ``text`` arrived. ``tokens`` is the server's count. ``ended``: by an end token."""

    text: str
    tokens: int
    ended: bool
    sent: float
    times: list[float]

    @property
    def first_s(self) -> float:
        """Seconds to the first piece."""
        return self.times[0] - self.sent if self.times else 0.0

    @property
    def gaps(self) -> list[float]:
        """Seconds between two arrivals."""
        found = [b - a for a, b in zip(self.times, self.times[1:], strict=False)]
        return [gap for gap in found if gap > _TOGETHER_S]


def _text(choice: dict[str, Any]) -> str:
    return (choice.get("delta") or {}).get("content") or choice.get("text") or ""


def ask_all(port: int, path: str, bodies: Sequence[dict[str, Any]], streams: int) -> tuple[list[Answer], float]:
    """Send ``bodies`` to a server on this machine, ``streams`` at the same time; returns answers and seconds."""
    waiting, found, began = list(enumerate(bodies)), dict[int, Stream](), time.perf_counter()
    with selectors.DefaultSelector() as selector:

        def begin() -> None:
            index, body = waiting.pop(0)
            found[index] = stream = Stream(time.perf_counter())
            selector.register(_send(port, path, body), selectors.EVENT_READ, stream)

        for _ in range(min(streams, len(bodies))):
            begin()
        while selector.get_map():
            ready = selector.select(_SILENT_S)
            if not ready:
                raise SystemExit(f"the server sent nothing for {_SILENT_S:.0f} s")
            for key, _ in ready:
                if _receive(key.fileobj, key.data):
                    selector.unregister(key.fileobj)
                    key.fileobj.close()  # type: ignore[union-attr]  # a socket
                    if waiting:
                        begin()
    seconds = time.perf_counter() - began
    return [found[index].answer() for index in range(len(bodies))], seconds


def _receive(connection: Any, stream: Stream) -> bool:
    """Read what is there; returns True at the end."""
    piece = connection.recv(1 << 16)
    stream.add(piece)
    return stream.over or not piece


def _send(port: int, path: str, body: dict[str, Any]) -> socket.socket:
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n"
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(head.encode() + data)
    return connection
