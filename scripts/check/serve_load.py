#!/usr/bin/env python3
"""Many clients at one server of the built-in pair: no answer is lost, mixed or wrong, and the memory stays flat.

    python -m scripts.check.serve_load [--clients 64] [--seconds 60] [--parallel 4] [--timeout 120]

A third of the requests leave before their answer ends, streamed or not; some send garbage, read nothing, or stop in the
middle of a request. Every answer that ends must be that of an engine alone. Exits 1 where one is not.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import localspec

_STORY = "Once upon a time there was a brave cat named Tom, who lived in a small white house by the sea. "
_GARBAGE = (b"\x00\xff" * 40, b"GET / HTTP/9.9\r\n\r\n", b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Le")


def requests() -> list[dict[str, Any]]:
    """Chats with common beginnings, each with its own seed."""
    found = []
    for number in range(24):
        question = _STORY * (number % 5) + ("Why?", "Who was brave?", "Tell me a story.")[number % 3]
        messages = [{"role": "user", "content": question}]
        found.append({"messages": messages, "max_tokens": 8 + 3 * number, "seed": number, "temperature": 1.1})
    return found


def alone(bodies: list[dict[str, Any]]) -> list[str]:
    """The text of each answer by an engine that answers nothing else before it."""
    texts = []
    with localspec.load("tiny", threads=1) as llm:
        for body in bodies:
            llm.forget()
            options = {key: value for key, value in body.items() if key != "messages"}
            texts.append(llm.chat(body["messages"], **options).text)
    return texts


class Client(threading.Thread):
    """Asks until ``end``; counts what became of its requests."""

    def __init__(
        self, port: int, end: float, seed: int, bodies: list[dict[str, Any]], texts: list[str], timeout: float
    ) -> None:
        super().__init__()
        self._port, self._end, self._random = port, end, random.Random(seed)
        self._bodies, self._texts, self._timeout = bodies, texts, timeout
        self.counts = Counter[str]()

    def run(self) -> None:
        while time.monotonic() < self._end:
            try:
                self.counts[self._once()] += 1
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.counts[f"lost: {type(error).__name__}"] += 1

    def _once(self) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self._timeout)
        try:
            if self._random.random() < 0.05:
                connection.connect()
                connection.sock.sendall(self._random.choice(_GARBAGE))
                return "garbage"
            number, stream = self._random.randrange(len(self._bodies)), self._random.random() < 0.5
            body = json.dumps({**self._bodies[number], "stream": stream})
            connection.request("POST", "/v1/chat/completions", body, {"User-Agent": f"client {self._random.random()}"})
            if self._random.random() < 1 / 3:
                time.sleep(self._random.random() * 0.3)
                return "left"
            response = connection.getresponse()
            data = response.read()
            if response.status == 503:
                return "refused"
            text = _streamed(data) if stream else json.loads(data)["choices"][0]["message"]["content"]
            return "right" if text == self._texts[number] else "WRONG"
        finally:
            with suppress(OSError):
                connection.close()


def _streamed(data: bytes) -> str:
    events = [json.loads(line) for line in re.findall(rb"^data: (\{.*\})$", data, re.MULTILINE)]
    if not data.endswith(b"data: [DONE]\n\n") or any("error" in event for event in events):
        raise ValueError("the stream has no end")
    return "".join(event["choices"][0]["delta"].get("content", "") for event in events)


def resident(process: int) -> float:
    """MiB of a process, on Linux."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=120, help="seconds that a client waits")
    args = parser.parse_args()
    bodies = requests()
    texts = alone(bodies)
    command = [sys.executable, "-m", "localspec", "serve", "-m", "tiny", "-t", "1", "--port", "0", "--queue", "256"]
    command += ["--parallel", str(args.parallel)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ.copy()) as server:
        assert server.stderr is not None
        port = 0
        while not port:
            found = re.search(r"serves .* at http://127\.0\.0\.1:(\d+)", server.stderr.readline())
            port = int(found[1]) if found else 0
        sizes, total = [], Counter[str]()
        for part in range(3):
            end = time.monotonic() + args.seconds / 3
            clients = [
                Client(port, end, 100 * part + seed, bodies, texts, args.timeout) for seed in range(args.clients)
            ]
            for client in clients:
                client.start()
            for client in clients:
                client.join()
                total.update(client.counts)
            sizes.append(resident(server.pid))
            print(f"{dict(total)}; {sizes[-1]:.0f} MiB", flush=True)
        server.terminate()
        code = server.wait(60)
    print(f"exit code {code}; memory after each third: {', '.join(f'{size:.0f}' for size in sizes)} MiB")
    bad = sum(count for name, count in total.items() if name.startswith(("lost", "WRONG")))
    sys.exit(bad > 0 or code != 0 or not total["right"])


if __name__ == "__main__":
    main()
