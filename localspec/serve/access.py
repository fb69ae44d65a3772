"""Who may ask: the Host and the Origin of a request, its key, and the length of its body."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from localspec.errors import UsageError
from localspec.serve.problem import RequestError
from localspec.serve.stream import problem_response

#: Paths that need no key: service managers have none, and the page asks for it.
OPEN_PATHS = frozenset({"/health", "/v1/health", "/"})


@dataclass(frozen=True)
class Access:
    """Rules of access. ``keys``: one of them is needed, if there are any. ``origins``: of web pages that may ask.

    ``hosts``: names of this server besides ``localhost``, its name in the network and addresses. ``max_body``: bytes.
    ``body_s``: seconds in which a body must arrive.
    """

    keys: Sequence[str] = ()
    origins: Sequence[str] = ()
    hosts: Sequence[str] = ()
    max_body: int = 16 * 2**20
    body_s: float = 30.0

    def allows_key(self, headers: Headers) -> bool:
        """True if no key is needed, or the request has one. Takes the same time for all wrong keys."""
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        given = bearer.strip() if kind.lower() == "bearer" else headers.get("x-api-key", "")
        found = False
        for key in self.keys:  # headers are read as Latin-1
            found |= hmac.compare_digest(_digest(given.encode("latin-1")), _digest(key.encode()))
        return found or not self.keys

    def allows_host(self, host: str) -> bool:
        """True for addresses and this machine's names.

        A web page elsewhere can point its own name at this address (DNS rebinding), but not an address or our names.
        """
        name = _host_name(host)
        return _is_address(name) or name in (
            "localhost",
            socket.gethostname().lower(),
            *(own.lower() for own in self.hosts),
        )

    def allows_origin(self, origin: str, host: str) -> bool:
        """True for the server's own pages and those of ``origins``."""
        return origin in (*self.origins, f"http://{host}", f"https://{host}") or "*" in self.origins

    def check(self, scope: Scope) -> None:
        """Raise :class:`RequestError` for a request that is not allowed."""
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self.allows_host(host):
            raise RequestError(403, f"the host {host!r:.80} is not this server's; --allow-host NAME adds one.")
        if origin is not None and not self.allows_origin(origin, host):
            raise RequestError(403, f"pages of {origin!r:.80} may not ask; --cors-origin ORIGIN allows one.")
        open_to_all = scope["path"] in OPEN_PATHS or scope["path"].startswith("/page/")
        if not open_to_all and not self.allows_key(headers):
            raise RequestError(401, "the key is missing or wrong; send it as `Authorization: Bearer KEY`.")
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self.max_body:
            raise self.too_long()

    def too_long(self) -> RequestError:
        """The problem of a body that is too long."""
        return RequestError(413, f"the body is longer than {self.max_body} bytes; send less.")


def _digest(key: bytes) -> bytes:
    """Keys of the same length each, so that a comparison does not tell theirs."""
    return hashlib.sha256(key).digest()


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """True if only programs of this machine reach an address."""
    name = host.strip("[]").lower()
    return name == "localhost" or (_is_address(name) and ipaddress.ip_address(name.partition("%")[0]).is_loopback)


def check_exposure(host: str, keys: Sequence[str], insecure: bool) -> None:
    """Raise :class:`UsageError` for an address that others reach, without a key."""
    if not is_loopback(host) and not keys and not insecure:
        raise UsageError(
            f"{host} can be reached from other machines, and there is no key: set --api-key-file FILE (or --api-key "
            "KEY), or --insecure to serve everyone."
        )


class Guard:
    """Middleware that refuses what :class:`Access` does not allow, and reads at most its longest body."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._access.check(scope)
        except RequestError as problem:
            await problem_response(problem, scope["path"])(scope, receive, send)
            return
        await self._app(scope, self._limited(receive), send)

    def _limited(self, receive: Receive) -> Receive:
        read, ended = 0, False
        loop = asyncio.get_running_loop()
        until = loop.time() + self._access.body_s

        async def limited() -> Message:
            nonlocal read, ended
            if ended:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, until - loop.time()))
            except asyncio.TimeoutError:
                raise RequestError(408, f"the body took more than {self._access.body_s:g} s to arrive.") from None
            read += len(message.get("body", b""))
            ended = not message.get("more_body", False)
            if read > self._access.max_body:
                raise self._access.too_long()
            return message

        return limited
