"""A bounded queue in front of the engines: so many requests at a time, in turns between clients."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress

from localspec.serve.problem import RequestError

#: Seconds after which a client may try again, at most.
_LONGEST = 120


class Turns:
    """Places in a queue of at most ``limit`` waiting requests, of which ``parallel`` run at the same time.

    A client with many requests delays no other by more than one.
    """

    def __init__(self, limit: int, parallel: int = 1) -> None:
        self._limit, self.parallel = limit, parallel
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        #: Places that run, and when they began.
        self._running: dict[asyncio.Future[None], float] = {}
        self.closed = False
        #: Seconds of a request, the recent ones counted most.
        self._mean = 1.0

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return sum(map(len, self._waiting.values()))

    @property
    def running(self) -> int:
        """Requests that run."""
        return len(self._running)

    def enter(self, client: str) -> asyncio.Future[None]:
        """A place for a request of ``client``: done when its turn comes. :meth:`leave` must follow.

        Raises :class:`RequestError` if the queue is full or closed.
        """
        if self.closed:
            raise _stopping()
        place = asyncio.get_running_loop().create_future()
        if self.running < self.parallel:
            self._give(place)
        elif self.waiting >= self._limit:
            seconds = min(_LONGEST, max(1, round(self._mean * self._limit / self.parallel)))
            message = f"{self._limit} requests wait already; try again in {seconds} seconds."
            raise RequestError(503, message, code="queue_full", retry_after=seconds)
        else:
            self._waiting.setdefault(client, deque()).append(place)
        return place

    def spare(self, most: int) -> list[asyncio.Future[None]]:
        """At most ``most`` places that nobody waits for, taken at once. :meth:`leave` must follow for each."""
        found = list[asyncio.Future[None]]()
        while len(found) < most and self.running < self.parallel and not self.waiting and not self.closed:
            found.append(asyncio.get_running_loop().create_future())
            self._give(found[-1])
        return found

    def leave(self, place: asyncio.Future[None]) -> None:
        """Give up a place, waiting or running; a task that waited for it and was cancelled has cancelled it, too."""
        if (since := self._running.pop(place, None)) is not None:
            self._mean += (time.monotonic() - since - self._mean) / 4
            self._next()
            return
        for client, places in list(self._waiting.items()):
            with suppress(ValueError):
                places.remove(place)
            if not places:
                del self._waiting[client]

    def close(self) -> None:
        """Refuse what waits and what comes."""
        self.closed = True
        for places in self._waiting.values():
            for place in places:
                if not place.done():
                    place.set_exception(_stopping())
        self._waiting.clear()

    def _next(self) -> None:
        for client in list(self._waiting):
            places = self._waiting.pop(client)
            place = places.popleft()
            if places:
                self._waiting[client] = places  # behind all others
            self._give(place)
            return

    def _give(self, place: asyncio.Future[None]) -> None:
        self._running[place] = time.monotonic()
        if not place.done():  # else it was cancelled, and will be left
            place.set_result(None)


def _stopping() -> RequestError:
    return RequestError(503, "the server is stopping; try again when it is back.", code="stopping", retry_after=10)
