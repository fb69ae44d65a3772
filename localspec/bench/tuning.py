"""Format a cost curve: a table of c(n), and the best draft depth at a given acceptance rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from localspec.bench.report import aligned
from localspec.control.costs import Costs, Curve

#: Acceptance rates of a draft token that the table shows.
ACCEPTANCES = (0.6, 0.8, 0.9, 0.95)
#: Tokens that a draft model decodes before its first guess: its last accepted token, and the one after it.
_PENDING = 2
#: Columns that the table of best depths needs; a narrower terminal gets lines.
_NARROW = 56


@dataclass(frozen=True)
class BestDepth:
    """Draft ``depth`` at which steps give most tokens a second, and the ``ratio`` to plain decoding.

    ``acceptance``: probability that a draft token is accepted if those before it were.
    """

    acceptance: float
    depth: int
    ratio: float


def expected_tokens(acceptance: float, depth: int) -> float:
    """Return the tokens of a step with ``depth`` draft tokens: Σ aⁱ, i = 0…depth (Leviathan et al. 2023, eq. 1)."""
    return float(sum(acceptance**i for i in range(depth + 1)))


def draft_seconds(costs: Costs, name: str | None, depth: int) -> float:
    """Return the seconds that the drafter ``name`` takes for ``depth`` tokens; 0 for n-gram lookup (None)."""
    if name is None or depth == 0:
        return 0.0
    one = costs.drafters[name]
    return one.first.seconds(_PENDING if len(one.first.widths) > 1 else 1) + one.step * (depth - 1)


def best_depth(costs: Costs, name: str | None, acceptance: float, widest: int) -> BestDepth:
    """Return the depth with most tokens a second in passes of at most ``widest``; 0 where plain decoding is best."""
    plain = 1.0 / (costs.verify.seconds(1) + costs.python)
    found = BestDepth(acceptance, 0, 1.0)
    for width in range(2, widest + 1):
        depth = width - 1
        seconds = costs.verify.seconds(width) + draft_seconds(costs, name, depth) + costs.python
        ratio = expected_tokens(acceptance, depth) / seconds / plain
        if ratio > found.ratio:
            found = BestDepth(acceptance, depth, ratio)
    return found


def best_depths(costs: Costs, widest: int) -> dict[str, list[BestDepth]]:
    """Return the best depths at :data:`ACCEPTANCES` for each drafter of ``costs``, and for n-gram lookup."""
    names: list[str | None] = [*costs.drafters, None]
    return {name or "ngram": [best_depth(costs, name, a, widest) for a in ACCEPTANCES] for name in names}


def best_depths_dict(costs: Costs, widest: int) -> dict[str, Any]:
    """Return the same for JSON."""
    return {name: [asdict(one) for one in found] for name, found in best_depths(costs, widest).items()}


def tune_lines(costs: Costs, widest: int, width: int) -> list[str]:
    """Format costs of passes and drafters and the best depths for a terminal ``width`` columns wide."""
    return [
        *aligned(("pass of n", "ms", "ms a row", "of n=1"), _curve_rows(costs.verify)),
        *_cell_lines(costs.verify),
        *(line for name in costs.drafters for line in _drafter_lines(costs, name)),
        "",
        *_depth_lines(costs, widest, width),
    ]


def _curve_rows(curve: Curve) -> list[tuple[str, ...]]:
    one = curve.seconds(1)
    return [
        (str(n), _ms(t), _ms(t / n), f"{t / one:.2f}") for n, t in zip(curve.widths, curve.times, strict=True)
    ]  # fmt: skip


def _cell_lines(curve: Curve) -> list[str]:
    return ["", f"every 1000 tokens in the cache: {_ms(1000 * curve.cell)} ms a row"] if curve.cell else []


def _ms(seconds: float) -> str:
    """Format milliseconds with three significant digits, or with all digits before the point."""
    value = 1000 * seconds
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def _drafter_lines(costs: Costs, name: str) -> list[str]:
    one, plain = costs.drafters[name], costs.verify.seconds(1)
    lines = ["", f"drafter {name}: {_ms(one.step)} ms, {one.step / plain:.2f} of a pass"]
    if len(one.first.widths) > 1:
        lines += aligned(("reading n first", "ms", "ms a row", "of n=1"), _curve_rows(one.first))
    return lines


def _depth_lines(costs: Costs, widest: int, width: int) -> list[str]:
    found = best_depths(costs, widest)
    if width < _NARROW:
        return [line for name, row in found.items() for line in _narrow_lines(name, row)]
    rows = [(name, *(_depth_cell(one) for one in row)) for name, row in found.items()]
    return aligned(("best depth if accepted", *(f"{a:.0%}" for a in ACCEPTANCES)), rows)


def _depth_cell(one: BestDepth) -> str:
    return f"{one.depth}: {one.ratio:.2f}x" if one.depth else "none"


def _narrow_lines(name: str, row: Sequence[BestDepth]) -> list[str]:
    return [f"best depth of {name}", *(f"  {one.acceptance:.0%} accepted  {_depth_cell(one)}" for one in row)]
