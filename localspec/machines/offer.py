"""The child process of a worker: ggml's RPC server, which serves until the process ends or aborts.

Its job comes as one line of JSON on standard input, which stays open while the parent lives.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Thread

from localspec.llama import binding
from localspec.llama.devices import Device
from localspec.llama.host import available_memory, default_threads
from localspec.llama.rpc import offer_memory, serve_rpc
from localspec.machines.keepalive import keep_alive

#: Lines of ggml's log when it is sent a tensor, and when it has written one to a file of the cache.
_RECEIVED = re.compile(r"\[set_tensor\].* size: (\d+)")
_SAVED = re.compile(r"\[set_tensor\] saved to '(.+)'")
#: Permissions of a file of the cache that is known to be whole.
_WHOLE = 0o444


def main() -> None:
    job = json.loads(sys.stdin.readline())
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    Thread(target=_end_with_parent, daemon=True).start()
    keep_alive()
    devices = offered(binding.devices())
    for device in devices:
        offer_memory(device, partial(_limit, kind=device.kind, most=job["memory"]))
    cache, log = job["cache"], CacheLog()
    if cache is not None:
        drop_partial(Path(cache))
    endpoint = f"{job['host']}:{job['port']}"
    serve_rpc(endpoint, cache, job["threads"] or default_threads(), [device.handle for device in devices], log.line)
    print(f"the address {endpoint} cannot be had", file=sys.stderr, flush=True)
    os._exit(1)


def offered(devices: list[Device]) -> list[Device]:
    """The GPUs, or the CPU where there is none, as ggml's own server chooses."""
    gpus = [device for device in devices if device.kind in ("gpu", "igpu")]
    return gpus or [device for device in devices if device.kind == "cpu"]


def _limit(free: int, kind: str, most: int | None) -> int:
    """Bytes that a device offers: ggml's CPU reports all memory of the machine as free."""
    found = min(free, available_memory() or free) if kind == "cpu" else free
    return found if most is None else min(found, most)


def _end_with_parent() -> None:
    with suppress(OSError):
        os.read(0, 1)
    os._exit(0)


def drop_partial(folder: Path) -> None:
    """Remove files of the cache that are not known to be whole: the process was killed while it wrote them."""
    for path in folder.iterdir():
        if path.is_file() and path.stat().st_mode & 0o777 != _WHOLE:
            path.unlink(missing_ok=True)


class CacheLog:
    """Watches ggml's log for files of the cache: ggml does not notice that a disk is full.

    It would load the beginning of a tensor in place of the whole the next time. A line is read before the server goes
    on, so no such file is ever used.
    """

    def __init__(self) -> None:
        self._size = -1

    def line(self, text: str) -> None:
        if found := _RECEIVED.search(text):
            self._size = int(found[1])
        elif found := _SAVED.search(text):
            self._check(Path(found[1]))
        elif "error" in text.lower():
            print(text, file=sys.stderr, flush=True)

    def _check(self, path: Path) -> None:
        with suppress(OSError):
            if path.stat().st_size == self._size:
                path.chmod(_WHOLE)
                return
            path.unlink()
        print("the disk of the cache is full: a tensor was not kept", file=sys.stderr, flush=True)
