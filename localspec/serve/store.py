"""Responses that later requests continue by their id: bounded, in memory alone."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import msgspec

from localspec.serve.dialects.fields import JsonObject
from localspec.serve.problem import RequestError


@dataclass(frozen=True)
class Stored:
    """A response, and the messages of its conversation, its own last."""

    response: JsonObject
    messages: list[JsonObject]


class Store:
    """The latest responses: at most ``most``, of at most ``limit`` bytes as JSON together."""

    def __init__(self, most: int = 1024, limit: int = 64 * 2**20) -> None:
        self._most, self._limit = most, limit
        self._kept: OrderedDict[str, tuple[Stored, int]] = OrderedDict()
        self._bytes = 0

    def keep(self, name: str, stored: Stored) -> None:
        """Add a response; those that were not used for longest go."""
        size = len(msgspec.json.encode([stored.response, stored.messages]))
        self._kept[name] = (stored, size)
        self._bytes += size
        while self._kept and (len(self._kept) > self._most or self._bytes > self._limit):
            _, (_, gone) = self._kept.popitem(last=False)
            self._bytes -= gone

    def get(self, name: str, field: str | None = None) -> Stored:
        """The response of an id. Raises :class:`RequestError`."""
        if name not in self._kept:
            raise RequestError(404, f"there is no response {name!r:.80} (any more).", field=field)
        self._kept.move_to_end(name)
        return self._kept[name][0]

    def drop(self, name: str) -> None:
        """Remove a response. Raises :class:`RequestError`."""
        self.get(name)
        self._bytes -= self._kept.pop(name)[1]
