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
    """A pass of the sequences ``first`` … ``end`` − 1, with ``width`` rows each. Only ``members`` need theirs."""

    first: int
    end: int
    width: int
    members: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Rows of the pass, padding included."""
        return (self.end - self.first) * self.width


class Passes(NamedTuple):
    """Passes of one step of all sequences, and the ``seconds`` that they take together."""

    seconds: float
    groups: list[Group]


class Limits(NamedTuple):
    """Rows of a pass of several sequences: at most ``most``, or exactly ``fixed`` where that is not 1."""

    most: int
    fixed: int = 1

    def width(self, need: int, sequences: int) -> int:
        """Return the rows of each of some ``sequences`` that need at most ``need``; 0 if they cannot share a pass."""
        if sequences == 1:
            return need
        if self.fixed == 1:
            return need if need * sequences <= self.most else 0
        width = self.fixed // sequences
        return width if width * sequences == self.fixed <= self.most and width >= need else 0


def cheapest_passes(rows: Sequence[int], seconds: Callable[[int], float], limits: Limits) -> Passes:
    """Return passes that take the least time. Sequence *i* needs ``rows[i]`` rows, or 0 for none.

    Sequences of one pass are consecutive and have equally many rows; the rest of them are padding, as are all rows of
    idle sequences: kernels that work in groups of rows make some passes cheaper than narrower ones. ``seconds`` is the
    time of a pass by its rows. Sequences that need many rows may have passes of their own, and be idle in that of their
    neighbours.
    """
    found = _neighbours(rows, seconds, limits)
    for limit in sorted({n for n in rows if n})[:-1]:
        wide = [Group(i, i + 1, n, (i,)) for i, n in enumerate(rows) if n > limit]
        rest = _neighbours([n if n <= limit else 0 for n in rows], seconds, limits)
        time = rest.seconds + sum(seconds(group.rows) for group in wide)
        if time < found.seconds:
            found = Passes(time, [*rest.groups, *wide])
    return found


def _neighbours(rows: Sequence[int], seconds: Callable[[int], float], limits: Limits) -> Passes:
    """Return the cheapest passes in which no sequence is idle that needs rows."""
    times, last = [0.0], list[Group | None]()
    for end in range(1, len(rows) + 1):
        best, found, need = (math.inf if rows[end - 1] else times[-1]), None, 0
        for first in range(end - 1, -1, -1):
            need = max(need, rows[first])
            if need * (end - first) > limits.most and end - first > 1:
                break
            width = limits.width(need, end - first) if need else 0
            if width and (time := times[first] + seconds(width * (end - first))) < best:
                best, found = time, Group(first, end, width, tuple(i for i in range(first, end) if rows[i]))
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

    def __init__(self, rows: Sequence[int], index: int, seconds: Callable[[int], float], limits: Limits) -> None:
        self._rows, self._index, self._seconds, self._limits = list(rows), index, seconds, limits
        self._known: dict[int, float] = {}
        self._others = self._total(0)

    def __call__(self, n: int) -> float:
        if n not in self._known:
            self._known[n] = self._total(n) - self._others
        return self._known[n]

    def _total(self, n: int) -> float:
        self._rows[self._index] = n
        return cheapest_passes(self._rows, self._seconds, self._limits).seconds


def pass_seconds(control: Control) -> Callable[[int], float]:
    """Return c(n) as ``control`` knows it, else an assumption."""
    return control.verify.seconds if isinstance(control, Controller) else lambda rows: _PASS + rows
