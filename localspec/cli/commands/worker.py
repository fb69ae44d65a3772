"""``localspec worker``: offer this machine's memory and devices to models that run on another one."""

from __future__ import annotations

import sys
from socket import gethostname
from typing import Any

import click

from localspec.cli.options.values import FileName
from localspec.cli.terminal.notes import Notes, notice

_OPEN = (
    "whoever reaches {address} can read and write this worker's memory: there is no password and no encryption. Use it "
    "only on a network where you trust every machine."
)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="IPv4 address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=50052, show_default=True, help="Port to listen on.")
@click.option(
    "--memory", type=click.IntRange(1), metavar="MIB", help="Offer at most so much memory.  [default: what is free]"
)
@click.option("--cache", type=FileName(), metavar="DIR", help="Keep large tensors in DIR, so that they come only once.")
@click.option(
    "-t", "--threads", type=click.IntRange(1, 512), metavar="N", help="CPU threads.  [default: physical cores]"
)
@click.option(
    "--tunnel",
    metavar="USER@HOST",
    help="Offer the worker on the loopback address of HOST by an SSH forward, and keep that up.",
)
@click.option("--insecure", is_flag=True, help="Listen on an address that others reach, without protection.")
def worker(memory: int | None, **values: Any) -> None:
    """Offer this machine to models that run on another one: `localspec chat --rpc HOST:PORT` there.

    Needs a llama.cpp that was built with RPC. Listens on the loopback address unless told otherwise: --tunnel connects
    it to the other machine safely. It serves one program at a time. Ctrl-C ends it.
    """
    from localspec.machines.worker import WorkerOptions, run_worker

    options = WorkerOptions(memory=None if memory is None else memory * 2**20, **values)
    address = f"{options.host}:{options.port}"
    if options.insecure and options.open:
        notice(_OPEN.format(address=address))
    host = "127.0.0.1" if options.tunnel else gethostname() if options.host == "0.0.0.0" else options.host
    use = f"with: --rpc {host}:{options.port}"

    def started() -> None:
        place = f" on {options.tunnel.rpartition('@')[2]}" if options.tunnel else ""
        Notes(sys.stderr).plain(f"localspec offers this machine at {address}. Use it{place} {use}")

    run_worker(options, started, notice)
