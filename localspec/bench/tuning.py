"""What a cost curve says: a table of c(n), and how deep a draft is best at a given acceptance. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from localspec.bench.report import aligned
from localspec.control.costs import Costs, Curve

ACCEPTANCES = (0.6, 0.8, 0.9, 0.95)
#: A draft model has the token after its last accepted one to read, too; an assistant has not.
_LAG = 2
_NARROW = 56


@dataclass(frozen=True)
class Best:
    """At this ``acceptance`` of each token, drafting ``depth`` tokens a step makes ``ratio`` times plain's speed."""

    acceptance: float
    depth: int
    ratio: float


def expected_tokens(acceptance: float, depth: int) -> float:
    """Tokens of a step with ``depth`` draft tokens: Σ aⁱ, i = 0…depth (Leviathan et al. 2023, equation 1)."""
    return float(sum(acceptance**i for i in range(depth + 1)))


def draft_seconds(costs: Costs, name: str | None, depth: int) -> float:
    """Seconds that the drafter ``name`` takes for ``depth`` tokens; a lookup (None) takes none."""
    if name is None or depth == 0:
        return 0.0
    one = costs.drafters[name]
    return one.first.seconds(_LAG if len(one.first.widths) > 1 else 1) + one.step * (depth - 1)


def best(costs: Costs, name: str | None, acceptance: float, widest: int) -> Best:
    """The depth with the most tokens a second in passes of at most ``widest``; 0 where plain decoding is best."""
    plain = 1.0 / (costs.verify.seconds(1) + costs.python)
    found = Best(acceptance, 0, 1.0)
    for width in range(2, widest + 1):
        depth = width - 1
        seconds = costs.verify.seconds(width) + draft_seconds(costs, name, depth) + costs.python
        ratio = expected_tokens(acceptance, depth) / seconds / plain
        if ratio > found.ratio:
            found = Best(acceptance, depth, ratio)
    return found


def sources(costs: Costs) -> list[str | None]:
    """The drafters of ``costs``, and lookup (None) after them."""
    return [*costs.drafters, None]


def advice(costs: Costs, widest: int) -> dict[str, list[Best]]:
    """What is best for each drafter at :data:`ACCEPTANCES`."""
    return {name or "ngram": [best(costs, name, a, widest) for a in ACCEPTANCES] for name in sources(costs)}


def advice_record(costs: Costs, widest: int) -> dict[str, Any]:
    """The same, for JSON."""
    return {name: [asdict(one) for one in found] for name, found in advice(costs, widest).items()}


def tune_lines(costs: Costs, widest: int, width: int) -> list[str]:
    """Tables for a terminal ``width`` columns wide: costs of passes, of drafting, and what is best."""
    return [
        *aligned(("pass of n", "ms", "ms a row", "of n=1"), _rows(costs.verify)),
        *_cell_line(costs.verify),
        *(line for name in costs.drafters for line in _drafter(costs, name)),
        "",
        *_advice(costs, widest, width),
    ]


def _rows(curve: Curve) -> list[tuple[str, ...]]:
    one = curve.seconds(1)
    return [
        (str(n), _ms(t), _ms(t / n), f"{t / one:.2f}") for n, t in zip(curve.widths, curve.times, strict=True)
    ]  # fmt: skip


def _cell_line(curve: Curve) -> list[str]:
    return ["", f"every 1000 tokens in the cache: {_ms(1000 * curve.cell)} ms a row"] if curve.cell else []


def _ms(seconds: float) -> str:
    """Milliseconds with three digits that count, or all before the point."""
    value = 1000 * seconds
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def _drafter(costs: Costs, name: str) -> list[str]:
    one, plain = costs.drafters[name], costs.verify.seconds(1)
    lines = ["", f"drafter {name}: {_ms(one.step)} ms, {one.step / plain:.2f} of a pass"]
    if len(one.first.widths) > 1:
        lines += aligned(("reading n first", "ms", "ms a row", "of n=1"), _rows(one.first))
    return lines


def _advice(costs: Costs, widest: int, width: int) -> list[str]:
    found = advice(costs, widest)
    if width < _NARROW:
        return [line for name, row in found.items() for line in _narrow(name, row)]
    rows = [(name, *(_cell(one) for one in row)) for name, row in found.items()]
    return aligned(("best depth if accepted", *(f"{a:.0%}" for a in ACCEPTANCES)), rows)


def _cell(one: Best) -> str:
    return f"{one.depth}: {one.ratio:.2f}x" if one.depth else "none"


def _narrow(name: str, row: Sequence[Best]) -> list[str]:
    return [f"best depth of {name}", *(f"  {one.acceptance:.0%} accepted  {_cell(one)}" for one in row)]
