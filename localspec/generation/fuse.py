"""Which passes of several sequences are computed at once. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from localspec.control.base import Control
from localspec.control.controller import Controller

#: Assumed cost of a pass in rows, beside that of its rows, where nothing is measured.
_PASS = 4.0


class Group(NamedTuple):
    """Sequences ``first`` … ``end`` − 1, with ``width`` rows each in one pass."""

    first: int
    end: int
    width: int

    @property
    def rows(self) -> int:
        """Rows of the pass, padding included."""
        return (self.end - self.first) * self.width


class Passes(NamedTuple):
    """Passes of one step of all sequences, and the ``seconds`` that they take together."""

    seconds: float
    groups: list[Group]


def cheapest_passes(rows: Sequence[int], seconds: Callable[[int], float], most: int) -> Passes:
    """Return the passes that take the least time. Sequence *i* needs ``rows[i]`` rows, or 0 for none.

    Sequences of one pass are consecutive and have equally many rows; the rest of them are padding. ``seconds`` is the
    time of a pass by its rows. A pass of several sequences has at most ``most``.
    """
    times, last = [0.0], list[Group | None]()
    for end in range(1, len(rows) + 1):
        best, found, width = times[-1] if not rows[end - 1] else math.inf, None, 0
        for first in range(end - 1, -1, -1) if rows[end - 1] else ():
            width = max(width, rows[first])
            total = width * (end - first)
            if end - first > 1 and total > most:
                break
            if rows[first] and (time := times[first] + seconds(total)) < best:
                best, found = time, Group(first, end, width)
        times.append(best)
        last.append(found)
    groups, end = list[Group](), len(rows)
    while end:
        group = last[end - 1]
        if group is not None:
            groups.append(group)
        end = group.first if group is not None else end - 1
    return Passes(times[-1], groups[::-1])


class Price:
    """Seconds that n rows of one sequence add to the passes of all, which need ``rows`` each, this one included."""

    def __init__(self, rows: Sequence[int], index: int, seconds: Callable[[int], float], most: int) -> None:
        self._rows, self._index, self._seconds, self._most = list(rows), index, seconds, most
        self._known: dict[int, float] = {}
        self._others = self._total(0)

    def __call__(self, n: int) -> float:
        if n not in self._known:
            self._known[n] = self._total(n) - self._others
        return self._known[n]

    def _total(self, n: int) -> float:
        self._rows[self._index] = n
        return cheapest_passes(self._rows, self._seconds, self._most).seconds


def pass_seconds(control: Control) -> Callable[[int], float]:
    """Return c(n) as ``control`` knows it, else an assumption."""
    return control.verify.seconds if isinstance(control, Controller) else lambda rows: _PASS + rows
