"""Which passes of several sequences are computed at once. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

from localspec.control.base import Control
from localspec.control.controller import Controller

#: Assumed cost of a pass in rows, beside that of its rows, where nothing is measured.
_PASS = 4.0
#: Lengths to which drafts of several sequences may be cut, in rows, beside those that they have.
LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


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


class Want(NamedTuple):
    """Rows that a sequence needs in its next pass, and the seconds that each further one of a draft is worth."""

    need: int
    gains: Sequence[float] = ()

    def rows(self, limit: int) -> int:
        """Return its rows in passes of at most ``limit`` where it has a choice."""
        return max(self.need, min(limit, self.need + len(self.gains)))


def best_passes(wants: Sequence[Want], seconds: Callable[[int], float], limits: Limits) -> tuple[list[int], Passes]:
    """Return the rows of each sequence and their passes, with all drafts cut to the length that is worth most.

    One length for all, since rows that a neighbour does not need are padding.
    """
    widest = max((want.need + len(want.gains) for want in wants if want.gains), default=0)
    lengths = {want.need + len(want.gains) for want in wants} | {limit for limit in LENGTHS if limit < widest}
    known = cache(seconds)
    found, most = ([want.need for want in wants], Passes(0.0, [])), -math.inf
    for limit in sorted(lengths) if widest else [0]:
        rows = [want.rows(limit) for want in wants]
        passes = cheapest_passes(rows, known, limits)
        gained = sum(sum(want.gains[: n - want.need]) for want, n in zip(wants, rows, strict=True))
        if gained - passes.seconds > most:
            found, most = (rows, passes), gained - passes.seconds
    return found


class Price:
    """Seconds that n rows of one of some ``sequences`` take, where each of them has n rows and shares passes.

    ``slots``: sequences with those that are idle, which can be padding.
    """

    def __init__(self, sequences: int, slots: int, seconds: Callable[[int], float], limits: Limits) -> None:
        self._sequences, self._slots, self._seconds, self._limits = sequences, slots, seconds, limits
        self._known: dict[int, float] = {}

    def __call__(self, n: int) -> float:
        if n not in self._known:
            ways = (
                (self._limits.width(n, size) * size, min(size, self._sequences)) for size in range(1, self._slots + 1)
            )
            self._known[n] = min(self._seconds(rows) / members for rows, members in ways if rows)
        return self._known[n]


def pass_seconds(control: Control) -> Callable[[int], float]:
    """Return c(n) as ``control`` knows it, else an assumption."""
    return control.verify.seconds if isinstance(control, Controller) else lambda rows: _PASS + rows
