"""Probe of passes of fixed width: which are exact, what they cost, and which one is worth its cost.

A padded pass (see :class:`localspec.generation.passes.PassShape`) always runs the same kernels. So its rows can be
those of padded passes over one token where the rows of passes of any width are not those of single-token passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from localspec.generation.loop import Pass, execute
from localspec.generation.passes import EDGE
from localspec.params import FIXED_WIDTHS
from localspec.probe.batch_invariance import (
    HELD,
    LONG,
    ProbedContext,
    hold,
    largest_difference,
    numbers_by_width,
    repeat,
)
from localspec.protocols import UNBOUNDED, Rows

#: Plain decoding in padded passes may take so many times the time of unpadded ones, unless exactness is required.
DEAREST = 1.05
#: Once a width takes so many times the time of a single row, wider ones are not timed.
_HOPELESS = 1.5
#: Passes of a width that are timed, by turns with passes of one row: other programs only slow passes down.
_PASSES = 6
#: Share of draft tokens that are expected to be accepted. The choice must not depend on a drafter, or the text would.
_ACCEPTANCE = 0.7


@dataclass
class PaddedFindings:
    """Measurements of padded passes by width, which another process can continue.

    ``costs``: times that a pass takes the time of one row. ``differences``: the largest one seen between logits of a
    pass with several real tokens and of passes with one; 0 where all bits are equal.
    """

    costs: dict[int, float] = field(default_factory=dict)
    differences: dict[int, float] = field(default_factory=dict)

    def worth(self, width: int) -> float:
        """Expected tokens of a pass that drafts ``width`` - 1 tokens, by its cost: 1 is plain decoding."""
        return (1 - _ACCEPTANCE**width) / (1 - _ACCEPTANCE) / self.costs[width]

    def best_up_to(self, width: int) -> float:
        """The largest worth of passes of at most ``width`` rows, of those that were timed; at least 1."""
        return max([1.0, *(self.worth(timed) for timed in self.costs if timed <= width)])

    def pending(self, dearest: float, most: int = UNBOUNDED) -> tuple[str, int] | None:
        """Next measurement for a width that costs at most ``dearest``: ``time`` or ``compare``, and the width.

        ``most``: rows of the widest pass whose padding the cache can lose.
        """
        for width in (width for width in FIXED_WIDTHS if width <= most):
            if width not in self.costs:
                return "time", width
            if self.costs[width] > max(dearest, _HOPELESS):
                break
        for width in self._ranking(dearest):
            if width not in self.differences:
                return "compare", width
            if self.differences[width] == 0.0:
                break
        return None

    def choice(self, dearest: float) -> int | None:
        """The exact width that is worth most among those that cost at most ``dearest``; None if there is none."""
        return next((width for width in self._ranking(dearest) if self.differences.get(width) == 0.0), None)

    def _ranking(self, dearest: float) -> list[int]:
        cheap = [width for width, cost in self.costs.items() if cost <= dearest]
        return sorted(cheap, key=self.worth, reverse=True)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: object) -> PaddedFindings | None:
        """From the values of :meth:`to_dict`, also as JSON gives them; None for anything else."""
        if not isinstance(values, dict) or values.keys() != {item.name for item in fields(cls)}:
            return None
        try:
            costs, differences = (numbers_by_width(values[name]) for name in ("costs", "differences"))
        except (TypeError, ValueError, AttributeError):
            return None
        return cls(costs, differences) if all(costs.values()) else None


def probe_padded(
    context: ProbedContext,
    text: Sequence[int],
    findings: PaddedFindings,
    *,
    dearest: float = math.inf,
    only: int | None = None,
    checkpoint: Callable[[PaddedFindings], None] = lambda _: None,
) -> None:
    """Extend ``findings`` until a width is known that costs at most ``dearest``, or of the width ``only``.

    ``text``: ids of ordinary text. ``checkpoint`` is called after each width. The cache is empty afterwards.
    """
    try:
        if only is not None:
            if only not in findings.differences:
                findings.differences[only] = compare_padded(context, text, only)
                checkpoint(findings)
            return
        while step := findings.pending(dearest, context.rollback + 1):
            kind, width = step
            if kind == "time":
                findings.costs[width] = measure_cost(context, text, width)
            else:
                findings.differences[width] = compare_padded(context, text, width)
            checkpoint(findings)
    finally:
        context.rewind(0)


def measure_cost(context: ProbedContext, text: Sequence[int], width: int) -> float:
    """The fastest of some passes of ``width`` rows in a short cache, in passes of one row; at least 1."""
    tokens, fastest = repeat(text, HELD + width), {1: math.inf, width: math.inf}
    start = hold(context, tokens[:HELD])
    for _ in range(_PASSES):
        for rows in (1, width):
            before = context.decode_s
            context.decode(tokens[HELD : HELD + rows])
            fastest[rows] = min(fastest[rows], context.decode_s - before)
            context.rewind(start)
    return max(1.0, fastest[width] / max(fastest[1], 1e-9))


def compare_padded(context: ProbedContext, text: Sequence[int], width: int) -> float:
    """The largest difference between rows of passes with 1 … ``width`` real tokens and with one; 0: none.

    Compared behind a few tokens, where the cells that llama.cpp reads grow, and in a long cache.
    """
    tokens = repeat(text, HELD + width + 1)
    held, rest = tokens[:HELD], tokens[HELD:]
    hold(context, held)
    found = _compare(context, rest, width, range(2, width + 1))
    if context.n_ctx > EDGE + width:
        start = hold(context, held, EDGE // HELD - 1)
        context.decode(held[: EDGE + 1 - width - start], "none")  # the next padded pass reads the first cell behind it
        found = max(found, _compare(context, rest, width, (2, width)))
    if context.n_ctx > HELD * LONG + width:
        hold(context, held, LONG)
        found = max(found, _compare(context, rest, width, (2, width)))
    return found


def _compare(context: ProbedContext, tokens: Sequence[int], width: int, counts: Sequence[int]) -> float:
    """Compare passes with so many real tokens, each followed by one with one, behind what is cached."""
    at = len(context.tokens)
    context.mark()
    single = [execute(context, Pass((token,), "all", width))[0].copy() for token in tokens[: width + 1]]
    expected: Rows = np.array(single)
    found = 0.0
    for count in counts:
        context.rewind(at)
        found = max(found, largest_difference(execute(context, Pass(tokens[:count], "all", width)), expected))
        following = execute(context, Pass((tokens[count],), "all", width))
        found = max(found, largest_difference(following, expected[count:]))
    return found
