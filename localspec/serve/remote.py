"""Pictures at addresses of the web, fetched only where the operator allows it.

A request must not make the server reach what only the server reaches. So every address that a name stands for must be a
public one, the connection goes to the address that was checked, redirects are checked likewise, and no proxy is used.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from localspec.errors import InputError
from localspec.media.source import Image
from localspec.serve.dialects.job import Ask, Prompt
from localspec.serve.problem import RequestError

_REDIRECTS = (301, 302, 303, 307, 308)
_PORTS = {"http": 80, "https": 443}
#: Resolves a host and port to addresses, as :func:`socket.getaddrinfo` does.
Resolve = Callable[[str, int], list[str]]


def resolve(host: str, port: int) -> list[str]:
    """All addresses of a host."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def is_public(address: str) -> bool:
    """True for an address that everyone reaches: not of this machine, a private network, or a special use."""
    found = ipaddress.ip_address(address.partition("%")[0])
    inner = getattr(found, "ipv4_mapped", None) or getattr(found, "sixtofour", None) or found
    return found.is_global and inner.is_global and not found.is_multicast and found not in _TRANSLATED


#: IPv6 addresses that a gateway translates to IPv4 ones, private ones included.
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True)
class Fetcher:
    """Fetches pictures. ``seconds``: for one, redirects included; ``most``: bytes; ``hops``: redirects."""

    seconds: float = 15.0
    most: int = 20 * 2**20
    hops: int = 3
    resolve: Resolve = resolve
    allowed: Callable[[str], bool] = is_public

    def __call__(self, url: str) -> Image:
        """Return the picture at ``url``. Raises :class:`InputError`."""
        until = time.monotonic() + self.seconds
        at = url
        for _ in range(self.hops + 1):
            answer = self._get(at, until)
            if isinstance(answer, bytes):
                return Image(answer, _short(url))
            at = urljoin(at, answer)
        raise InputError(f"{_short(url)} redirects more than {self.hops} times; give the picture itself.")

    def _get(self, url: str, until: float) -> bytes | str:
        """The body at ``url``, or the address that it redirects to."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
        except ValueError:
            raise InputError(f"{_short(url)} is no address of a picture.") from None
        if parts.scheme not in _PORTS or not host:
            raise InputError(f"{_short(url)} is no address of a picture; it must begin with https://.")
        try:
            connection = self._connect(parts, host, port, until)
            try:
                return self._read(connection, parts, url, until)
            finally:
                connection.close()
        except (OSError, HTTPException, UnicodeError, ValueError) as error:
            raise InputError(f"{_short(url)} cannot be fetched ({error or type(error).__name__}).") from None

    def _connect(self, parts: SplitResult, host: str, port: int, until: float) -> HTTPConnection:
        addresses = self.resolve(host, port)
        if not addresses or not all(self.allowed(address) for address in addresses):
            raise InputError(f"{_short(parts.geturl())} is not at a public address; give the picture itself.")
        connection = HTTPConnection(host, port)
        stream = socket.create_connection((addresses[0], port), timeout=max(0.1, until - time.monotonic()))
        if parts.scheme == "https":
            stream = ssl.create_default_context().wrap_socket(stream, server_hostname=host)
        connection.sock = stream
        return connection

    def _read(self, connection: HTTPConnection, parts: SplitResult, url: str, until: float) -> bytes | str:
        stream = connection.sock  # the connection forgets it where the server ends it
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", path, headers={"User-Agent": "localspec", "Accept": "image/png, image/jpeg"})
        answer = connection.getresponse()
        if answer.status in _REDIRECTS and answer.headers.get("location"):
            return str(answer.headers["location"])
        if answer.status != 200:
            raise InputError(f"{_short(url)} answers {answer.status}; give the picture itself.")
        data = b""
        while True:
            left = until - time.monotonic()
            if left <= 0:
                raise InputError(f"{_short(url)} took more than {self.seconds:g} s; give the picture itself.")
            stream.settimeout(left)
            part = answer.read1(1 << 16)
            if not part:
                return data
            data += part
            if len(data) > self.most:
                raise InputError(f"{_short(url)} has more than {self.most} bytes; give a smaller picture.")


def addresses(ask: Ask) -> list[str]:
    """The web addresses of pictures in a request."""
    return [url for prompt in ask.prompts for part in _parts(prompt) if (url := _address(part))]


def fetched(ask: Ask, fetch: Callable[[str], Image] | None) -> Ask:
    """The request with the pictures at its addresses; ``fetch`` is None where that is not allowed."""
    urls = addresses(ask)
    if not urls:
        return ask
    if fetch is None:
        message = f"the picture at {_short(urls[0])} is not fetched by this server; send it as a data URL."
        raise RequestError(400, message, field="messages")
    images = {url: fetch(url) for url in dict.fromkeys(urls)}
    return replace(ask, prompts=tuple(_with_images(prompt, images) for prompt in ask.prompts))


def _with_images(prompt: Prompt, images: Mapping[str, Image]) -> Prompt:
    if not _parts(prompt):
        return prompt
    return [
        {**message, "content": [images.get(_address(part) or "", part) for part in message["content"]]}
        if isinstance(message.get("content"), list)
        else message
        for message in _messages(prompt)
    ]


def _messages(prompt: Prompt) -> list[Mapping[str, Any]]:
    """The messages of a prompt; none of raw text."""
    found = prompt if isinstance(prompt, Sequence) and not isinstance(prompt, str) else ()
    return [one for one in found if isinstance(one, Mapping)]


def _parts(prompt: Prompt) -> list[Any]:
    contents = [message.get("content") for message in _messages(prompt)]
    return [part for content in contents if isinstance(content, list) for part in content]


def _address(part: Any) -> str | None:
    if not isinstance(part, Mapping) or part.get("type") != "image_url":
        return None
    url = part["image_url"].get("url")
    return url if isinstance(url, str) and url.partition(":")[0].lower() in _PORTS else None


def _short(url: str) -> str:
    return repr(url if len(url) <= 80 else f"{url[:77]}...")
