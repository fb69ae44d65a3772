"""Compare rows of logits bit for bit: passes over n tokens with single ones, and padded passes with each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from localspec.llama.context import LlamaContext

Row = npt.NDArray[np.float32]
#: Token that fills a padded pass in which one token is decoded, and tokens that fill it in a draft's pass: rows must
#: not depend on them.
_PAD, _OTHER_PAD = 7, (3, 11, 200)
#: Rows that are compared at a length.
ROWS = 8


@dataclass
class Compared:
    """Rows compared behind ``length`` tokens: those that differ, and the largest difference of a logit."""

    length: int
    width: int
    rows: int = 0
    differing: int = 0
    largest: float = 0.0

    def add(self, row: Row, wanted: Row) -> None:
        """Count one comparison."""
        self.rows += 1
        if not np.array_equal(row, wanted):
            self.differing += 1
            self.largest = max(self.largest, float(np.abs(row - wanted).max()))

    def to_dict(self) -> dict[str, Any]:
        """Return values for JSON."""
        return asdict(self)


def fill(context: LlamaContext, tokens: Sequence[int], length: int) -> None:
    """Bring the cache to the first ``length`` of ``tokens``, whatever it holds."""
    context.rewind(min(length, len(context.tokens)))
    while len(context.tokens) < length:
        start = len(context.tokens)
        context.decode(tokens[start : min(start + context.batch, length)], "none")


def compare_variable(context: LlamaContext, tokens: Sequence[int], length: int, width: int) -> Compared:
    """Compare the rows of a pass over ``width`` tokens, and the one that follows it, with single-token passes."""
    found = Compared(length, width)
    count = min(width, ROWS)
    fill(context, tokens, length)
    single = [context.decode([token])[0].copy() for token in tokens[length : length + count + 1]]
    context.rewind(length)
    rows = context.decode(tokens[length : length + width])[:count].copy()
    for row, wanted in zip(rows, single, strict=False):
        found.add(row, wanted)
    if width <= count:
        found.add(context.decode([tokens[length + width]])[0], single[width])
    return found


def compare_fixed(context: LlamaContext, tokens: Sequence[int], length: int, width: int) -> Compared:
    """Compare passes of ``width`` rows of which 2 … ``width`` are tokens with passes of one token and padding.

    Also compared: the row that follows a pass all of whose rows but one were tokens.
    """
    found = Compared(length, width)
    fill(context, tokens, length)
    wanted = []
    for i in range(width + 1):
        wanted.append(context.decode([tokens[length + i], *[_PAD] * (width - 1)])[0].copy())
        context.rewind(length + i + 1)
    for count in range(2, width + 1):
        context.rewind(length)
        padding = [_OTHER_PAD[i % len(_OTHER_PAD)] for i in range(width - count)]
        rows = context.decode([*tokens[length : length + count], *padding])[:count].copy()
        for i in sorted({0, 1, count // 2, count - 1}):
            found.add(rows[i], wanted[i])
        context.rewind(length + count)
        if count >= width - 1:
            found.add(context.decode([tokens[length + count], *[_PAD] * (width - 1)])[0], wanted[count])
    context.rewind(length)
    return found


def totals(found: Sequence[Compared]) -> dict[str, dict[str, Any]]:
    """Sum up all lengths of each width."""
    result: dict[str, dict[str, Any]] = {}
    for one in found:
        sums = result.setdefault(str(one.width), {"rows": 0, "differing": 0, "largest": 0.0})
        sums["rows"] += one.rows
        sums["differing"] += one.differing
        sums["largest"] = max(sums["largest"], one.largest)
    return result
