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


def cheapest_groups(rows: Sequence[int], seconds: Callable[[int], float], most: int) -> list[Group]:
    """Return the passes that take the least time together. Sequence *i* needs ``rows[i]`` rows, or 0 for none.

    Sequences of one pass are consecutive and have equally many rows; the rest of them are padding. ``seconds`` is the
    time of a pass by its rows. A pass of several sequences has at most ``most``.
    """
    times, last = [0.0], list[Group | None]()
    for end in range(1, len(rows) + 1):
        best, found, width = times[-1] if not rows[end - 1] else math.inf, None, 0
        for first in range(end - 1, -1, -1) if rows[end - 1] else ():
            width = max(width, rows[first])
            group = Group(first, end, width)
            if end - first > 1 and group.rows > most:
                break
            if rows[first] and (time := times[first] + seconds(group.rows)) < best:
                best, found = time, group
        times.append(best)
        last.append(found)
    groups, end = list[Group](), len(rows)
    while end:
        group_at_end = last[end - 1]
        if group_at_end is not None:
            groups.append(group_at_end)
        end = group_at_end.first if group_at_end is not None else end - 1
    return groups[::-1]


def pass_seconds(control: Control) -> Callable[[int], float]:
    """Return c(n) as ``control`` knows it, else an assumption."""
    return control.verify.seconds if isinstance(control, Controller) else lambda rows: _PASS + rows
