"""``localspec serve``: the pair behind the interfaces that clients speak."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from localspec.cli.options.help import HeadedCommand
from localspec.cli.options.model import ModelOptions, model_options
from localspec.cli.options.values import FileName
from localspec.cli.terminal.notes import Notes, notice
from localspec.errors import InputError
from localspec.params import MAX_PARALLEL

if TYPE_CHECKING:
    from socket import socket

    from localspec.cli.model.load import Several
    from localspec.engine import Engine
    from localspec.serve.access import Access
    from localspec.serve.catalog import Model, Need
    from localspec.serve.problem import RequestError
    from localspec.serve.scheduler import Job


@dataclass(frozen=True)
class ServeOptions:
    """Options of the server alone."""

    host: str
    port: int
    parallel: int
    cache_ram: int | None
    queue: int
    grace: float
    keep_alive: float | None
    max_tokens: int | None
    only: str | None
    any_model: bool
    api_key: Sequence[str]
    api_key_file: str | None
    insecure: bool
    cors_origin: Sequence[str]
    allow_host: Sequence[str]
    allow_image_urls: bool
    log: bool
    log_texts: bool

    def keys(self) -> list[str]:
        """Keys of both options. Raises :class:`InputError` for a file without any."""
        if self.api_key_file is None:
            return [key for key in self.api_key if key]
        from localspec.cli.input.text import read_text

        found = [line.strip() for line in read_text(self.api_key_file).splitlines() if line.strip()]
        if not found:
            raise InputError(f"{self.api_key_file} holds no key; write one a line.")
        return [*self.api_key, *found]


@click.command(cls=HeadedCommand)
@model_options
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port; 0: a free one.")
@click.option(
    "--parallel",
    type=click.IntRange(1, MAX_PARALLEL),
    default=1,
    show_default=True,
    metavar="N",
    help="Answers at the same time, each with a context of its own.",
)
@click.option(
    "--cache-ram",
    type=click.IntRange(0),
    metavar="MIB",
    help="Memory for caches of earlier conversations.  [default: 1024, or 1/8 of what is free]",
)
@click.option("--api-key", multiple=True, metavar="KEY", help="Key that requests must send. May be repeated.")
@click.option("--api-key-file", type=FileName(), metavar="FILE", help="File of such keys, one a line.")
@click.option("--insecure", is_flag=True, help="Serve other machines without a key.")
@click.option("--cors-origin", multiple=True, metavar="ORIGIN", help="Web page that may ask. May be repeated.")
@click.option("--allow-host", multiple=True, metavar="NAME", help="Further name of this server. May be repeated.")
@click.option(
    "--models", "only", metavar="NAME,...", help="Limit the models that requests may name.  [default: all on disk]"
)
@click.option("--any-model", is_flag=True, help="Answer unknown model names by the server's model, not by an error.")
@click.option("--queue", type=click.IntRange(0), default=64, show_default=True, help="Most requests that wait.")
@click.option(
    "-n", "--max-tokens", type=click.IntRange(1), metavar="N", help="Most tokens of an answer.  [default: no limit]"
)
@click.option(
    "--keep-alive", type=click.FloatRange(0), metavar="S", help="Free a model after S idle seconds.  [default: never]"
)
@click.option(
    "--grace",
    type=click.FloatRange(0),
    default=10,
    show_default=True,
    metavar="S",
    help="Seconds to finish answers at the end.",
)
@click.option(
    "--allow-image-urls",
    is_flag=True,
    help="Fetch pictures that requests name by web addresses, never from private ones.",
)
@click.option("--log", is_flag=True, help="Print a line of JSON for each request, without its texts.")
@click.option("--log-texts", is_flag=True, help="Print prompts and answers as well.")
def serve(models: ModelOptions, **values: Any) -> None:
    """Serve models by the interfaces of OpenAI and Anthropic.

    Without -m it serves the model used last, or tiny, the built-in one, if none was pulled. Requests may name any
    other model on disk. Ctrl-C ends it.
    """
    from localspec.serve.access import Access, check_exposure
    from localspec.serve.run import bind

    options = ServeOptions(**values)
    keys = options.keys()
    check_exposure(options.host, keys, options.insecure)
    access = Access(keys, options.cors_origin, options.allow_host)
    with bind(options.host, options.port) as listener:
        _serve(_with_model(models), options, access, listener)


def _with_model(models: ModelOptions) -> ModelOptions:
    from localspec.cli.model.choose import used_last

    if models.chosen:
        return models
    last = used_last()
    if last is None:
        notice("no model was pulled yet, so this serves tiny, the built-in one; see `localspec pull -h`.")
        return models
    return replace(models, model=last)


def _serve(models: ModelOptions, options: ServeOptions, access: Access, listener: socket) -> None:
    from localspec.cli.model.load import Several, load_engine
    from localspec.memory.estimate import MIB
    from localspec.memory.fit import default_kept_bytes
    from localspec.memory.machine import read_machine
    from localspec.serve.app import make_app
    from localspec.serve.catalog import Catalog, named, on_disk
    from localspec.serve.engines import Engines
    from localspec.serve.log import line, refusal
    from localspec.serve.metrics import Metrics
    from localspec.serve.remote import Fetcher
    from localspec.serve.run import Ending, make_server
    from localspec.serve.scheduler import Scheduler
    from localspec.serve.service import Service
    from localspec.serve.turns import Turns

    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # clients that go away and send garbage
    cache_ram = default_kept_bytes(read_machine()) // MIB if options.cache_ram is None else options.cache_ram
    several = Several(options.parallel, cache_ram)
    engine = load_engine(models, several=several)
    named_only = options.only or (models.model if models.rpc else "")  # a worker serves one model at a time
    only = frozenset(name.strip().lower() for name in named_only.split(",") if name.strip())
    catalog = Catalog(named(models.model), on_disk, only, options.any_model)
    need, metrics = _need(models, options.parallel), Metrics()
    engines = Engines(catalog, _loader(models, several), need, options.keep_alive)
    engines.add(catalog.default, engine)

    def finished(job: Job, problem: RequestError | None) -> None:
        metrics.add(job, problem)
        _log(options, line(job, problem, texts=options.log_texts))

    fetch = Fetcher() if options.allow_image_urls else None
    scheduler = Scheduler(engines, Turns(options.queue, options.parallel), finished, fetch)
    service = Service(
        scheduler,
        metrics,
        need,
        options.max_tokens,
        refused=lambda path, problem: _log(options, refusal(path, problem)),
    )
    _show_address(engine, catalog.default, listener, bool(access.keys))
    try:
        ending = Ending(scheduler.turns.close, engines.stop, options.grace)
        make_server(make_app(service, access), ending).run([listener])
    finally:
        engines.close()


def _loader(models: ModelOptions, several: Several) -> Callable[[Model, Callable[[float], None]], Engine]:
    """Loads a model: the first one as before, others with its settings but those that belong to one model."""
    from localspec.cli.model.load import open_engine

    draft = models.draft if models.draft in ("auto", "none", "ngram") else "auto"
    others = replace(models, draft=draft, ngram_file=None, template=None)

    def load(model: Model, progress: Callable[[float], None]) -> Engine:
        own = models if model.target == models.model else replace(others, model=model.target)
        return open_engine(own, several, progress)

    return load


def _need(models: ModelOptions, parallel: int) -> Callable[[Model], Need | None]:
    from localspec.serve.catalog import need

    sizes = {
        "ctx_size": models.ctx_size or None, "gpu_layers": models.gpu_layers, "device": models.device,
        "sequences": parallel,
    }  # fmt: skip
    return lambda model: need(model.target, "auto", sizes)


def _log(options: ServeOptions, entry: dict[str, Any]) -> None:
    if options.log or options.log_texts:
        Notes(sys.stderr).plain(json.dumps(entry, ensure_ascii=False))


def _show_address(engine: Engine, model: Model, listener: socket, with_key: bool) -> None:
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    base, drafters = f"http://{host}:{port}", " and ".join(engine.drafters) or "no drafter"
    key = " -H 'Authorization: Bearer KEY'" if with_key else ""
    body = '{"messages": [{"role": "user", "content": "Hello"}]}'
    Notes(sys.stderr).plain(
        f"localspec serves {model.id} ({drafters}) at {base}\n"
        f"  In a browser:      {base}/\n"
        f"  OpenAI clients:    {base}/v1\n"
        f"  Anthropic clients: {base}\n"
        f"Try: curl {base}/v1/chat/completions -H 'Content-Type: application/json'{key} -d '{body}'"
    )
