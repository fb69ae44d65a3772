"""A server on the scripted backend, in a thread, and requests to it over a real socket."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from localspec.chat.template import ChatTemplate
from localspec.control.base import FixedDepth
from localspec.engine import Engine, ModelInfo
from localspec.generation.pair import Pair, Setup
from localspec.protocols import Rows
from localspec.serve.access import Access
from localspec.serve.app import make_app
from localspec.serve.catalog import Catalog, Model
from localspec.serve.engines import Engines
from localspec.serve.metrics import Metrics
from localspec.serve.run import Ending, Server, bind, make_server
from localspec.serve.scheduler import Job, Scheduler
from localspec.serve.service import Service
from localspec.serve.turns import Turns
from localspec.testing import Logits, ScriptedContext, ScriptedDrafter, ScriptedVocabulary
from tests.helpers.callers import Alone

END = 255
#: Renders calls in the syntax of Hermes; ``<tool_call>`` makes it known.
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>"
    "{{ {'name': c.function.name, 'arguments': c.function.arguments} | tojson }}</tool_call>{% endfor %}</>{% endfor %}"
    "{% if tools %}<tools>{{ tools | tojson }}</>{% endif %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
HELLO = [{"role": "user", "content": "Hello"}]


def replying(reply: str, after: str = "<assistant>") -> Logits:
    """Logits that write ``reply`` after the last ``after`` of the text, then the end."""
    script, marker = [*reply.encode(), END], after.encode()

    def logits(tokens: tuple[int, ...]) -> Rows:
        text = bytes(tokens)
        row = np.zeros(256, np.float32)
        start = text.rfind(marker) + len(marker)
        row[script[max(0, min(len(text) - start, len(script) - 1))]] = 50.0
        return row

    return logits


def engine_of(logits: Logits, name: str = "scripted", *, n_ctx: int = 4096, drafts: bool = True) -> Engine:
    """An engine that drafts the right token and a wrong one, and fails where two threads are in it."""
    vocabulary = ScriptedVocabulary(256, ends=[END])

    def script(tokens: list[int]) -> list[int]:
        return [int(np.argmax(logits(tuple(tokens)))), 0]

    target: Any = ScriptedContext(logits, 256, n_ctx)
    target.__class__, target.inside = Alone, 0
    info = ModelInfo(name, Path(f"/secret/folder/{name}.gguf"), "scripted", "scripted", 0, 0, n_ctx, 256)
    pair = Pair(target, vocabulary, (ScriptedDrafter(script),) if drafts else ())
    return Engine(pair, Setup(control=FixedDepth()), model=info, template=ChatTemplate(TEMPLATE))


@dataclass
class Answer:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[tuple[str | None, Any]]:
        """Name and data of each server-sent event; comments are left out."""
        found: list[tuple[str | None, Any]] = []
        for block in self.body.decode().split("\n\n"):
            lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if "data" in lines:
                data = lines["data"]
                found.append((lines.get("event"), data if data == "[DONE]" else json.loads(data)))
        return found


@dataclass
class Running:
    """A server that runs. ``jobs``: what ended, with its error."""

    server: Server
    port: int
    service: Service
    jobs: list[tuple[Job, Any]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    _connections: ExitStack = field(default_factory=ExitStack)

    def connect(self) -> http.client.HTTPConnection:
        """A connection that is closed with the server."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        self._connections.callback(connection.close)
        return connection

    def close(self) -> None:
        """Close what tests left open."""
        self._connections.close()

    def send(
        self, path: str, body: Any = None, method: str | None = None, **headers: str
    ) -> http.client.HTTPConnection:
        """Send a request; the caller reads the answer, or closes the connection."""
        connection = self.connect()
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        names = {key.replace("_", "-"): value for key, value in headers.items()}
        connection.request(method or ("GET" if body is None else "POST"), path, data, {**self.headers, **names})
        return connection

    def ask(self, path: str, body: Any = None, method: str | None = None, **headers: str) -> Answer:
        connection = self.send(path, body, method, **headers)
        try:
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def chat(self, messages: Any = HELLO, **fields: Any) -> Answer:
        return self.ask("/v1/chat/completions", {"messages": messages, "temperature": 0, **fields})


@contextmanager
def serving(
    engine: Engine,
    access: Access | None = None,
    *,
    queue: int = 8,
    parallel: int = 1,
    ping_s: float = 15.0,
    grace: float = 5.0,
    others: Mapping[str, Callable[[], Engine]] | None = None,
    max_tokens: int | None = None,
) -> Iterator[Running]:
    """A server of ``engine``; ``others`` are loaded when a request names them."""
    others = others or {}
    default = Model("scripted", "scripted")
    catalog = Catalog(default, lambda: [Model(name, name) for name in others])
    jobs: list[tuple[Job, Any]] = []
    metrics = Metrics()

    def finished(job: Job, problem: Any) -> None:
        metrics.add(job, problem)
        jobs.append((job, problem))

    engines = Engines(catalog, lambda model, progress: others[model.id]())
    engines.add(default, engine)
    scheduler = Scheduler(engines, Turns(queue, parallel), finished)
    service = Service(scheduler, metrics, max_tokens=max_tokens, ping_s=ping_s)
    with bind("127.0.0.1", 0) as listener:
        ending = Ending(scheduler.turns.close, engines.stop, grace)
        server = make_server(make_app(service, access or Access()), ending)
        running = Running(server, listener.getsockname()[1], service, jobs)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield running
        finally:
            running.close()
            server.should_exit = True
            thread.join(60)
            engines.close()
            assert not thread.is_alive()
