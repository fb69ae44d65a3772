"""Addresses of workers, as ``--rpc`` takes them. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from localspec.errors import UsageError

#: The port of ggml's own RPC server.
DEFAULT_PORT = 50052
#: Most devices that llama.cpp puts layers on, one of which is this machine.
_MOST = 15
_ADDRESS = re.compile(r"(?P<host>[A-Za-z0-9._-]+)(?::(?P<port>\d+))?(?:=(?P<layers>\d+))?")


@dataclass(frozen=True)
class Address:
    """A worker. ``layers``: how many it gets, None if that is left to the plan."""

    host: str
    port: int = DEFAULT_PORT
    layers: int | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def parse_workers(text: str | Sequence[str]) -> tuple[Address, ...]:
    """The addresses of ``HOST:PORT[=LAYERS],…``. Raises :class:`UsageError` for one that cannot be meant."""
    parts = text.split(",") if isinstance(text, str) else [part for item in text for part in item.split(",")]
    found = tuple(_parse(part.strip()) for part in parts if part.strip())
    if len({(address.host, address.port) for address in found}) < len(found):
        raise UsageError(f"--rpc {text} names a worker twice; name it once.")
    if not 0 < len(found) <= _MOST:
        raise UsageError(f"--rpc {text!r:.80} names {len(found)} workers; it must be 1 to {_MOST}.")
    return found


def _parse(text: str) -> Address:
    found = _ADDRESS.fullmatch(text)
    port = int(found["port"] or DEFAULT_PORT) if found else 0
    if found is None or not 0 < port < 2**16:
        raise UsageError(f"--rpc {text!r:.80} is no worker; it must be HOST:PORT with an IPv4 address or a name.")
    return Address(found["host"], port, int(found["layers"]) if found["layers"] else None)
