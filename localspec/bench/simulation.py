"""Compare automatic drafting with plain decoding and with every fixed depth, by replaying traces at given costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from localspec.bench.replay import automatic, best_fixed, replay
from localspec.bench.report import aligned, decimal
from localspec.bench.summary import Interval
from localspec.bench.trace import Trace
from localspec.control.base import FixedDepth
from localspec.control.costs import Costs

#: Columns that the table needs; a narrower terminal gets blocks.
_NARROW = 60


@dataclass(frozen=True)
class TraceComparison:
    """One trace replayed: seconds of plain decoding, of automatic drafting, and of ``best``, the best fixed choice."""

    id: str
    category: str
    tokens: int
    plain_s: float
    auto_s: float
    best: str
    best_s: float

    @property
    def ratio(self) -> float:
        """Speed of automatic drafting over that of plain decoding."""
        return self.plain_s / self.auto_s

    @property
    def share(self) -> float:
        """Speed of automatic drafting over that of the best fixed choice in hindsight."""
        return self.best_s / self.auto_s

    def to_dict(self) -> dict[str, Any]:
        """Return values for JSON."""
        return {**asdict(self), "ratio": self.ratio, "of_best_fixed": self.share}


@dataclass(frozen=True)
class CategoryComparison:
    """All traces of a category, in tokens a second. ``choice``: the fixed choice that was best most often."""

    category: str
    traces: int
    plain: float
    auto: float
    best: float
    choice: str
    worst_share: float

    @property
    def ratio(self) -> Interval:
        """Automatic over plain, without an interval: a replay is deterministic."""
        return Interval(self.auto / self.plain, None, None)

    @property
    def share(self) -> float:
        """Automatic over the best fixed choice of each trace, in hindsight."""
        return self.auto / self.best

    def to_dict(self) -> dict[str, Any]:
        """Return values for JSON."""
        return {**asdict(self), "ratio": self.ratio.value, "of_best_fixed": self.share}


def compare_traces(
    traces: Iterable[Trace], costs: Costs, sources: Sequence[str], widest: int
) -> Iterator[TraceComparison]:
    """Replay each trace at ``costs`` with the drafters ``sources``, in passes of at most ``widest`` tokens."""
    for trace in traces:
        if not trace.tokens:
            continue
        plain = replay(trace, costs, FixedDepth(0), sources=(), widest=widest)
        auto = automatic(trace, costs, sources=sources, widest=widest)
        best, found = best_fixed(trace, costs, sources=sources, widest=widest)
        yield TraceComparison(
            trace.id, trace.category, len(trace.tokens), plain.seconds, auto.seconds, best, found.seconds
        )  # fmt: skip


def compare_categories(replayed: Sequence[TraceComparison]) -> list[CategoryComparison]:
    """Sum up each category, and all of them if there are two or more."""
    categories = list(dict.fromkeys(one.category for one in replayed))
    found = [_category(name, [one for one in replayed if one.category == name]) for name in categories]
    return found if len(categories) < 2 else [*found, _category("all", replayed)]


def _category(category: str, replayed: Sequence[TraceComparison]) -> CategoryComparison:
    tokens = sum(one.tokens for one in replayed)

    def rate(seconds: Callable[[TraceComparison], float]) -> float:
        return tokens / sum(seconds(one) for one in replayed)

    return CategoryComparison(
        category=category,
        traces=len(replayed),
        plain=rate(lambda one: one.plain_s),
        auto=rate(lambda one: one.auto_s),
        best=rate(lambda one: one.best_s),
        choice=Counter(one.best for one in replayed).most_common(1)[0][0],
        worst_share=min(one.share for one in replayed),
    )


def simulation_lines(found: Sequence[CategoryComparison], width: int) -> list[str]:
    """Format as a table, or as blocks of at most 40 columns in a narrow terminal."""
    if width < _NARROW:
        return [line for one in found for line in _block(one)]
    rows = [
        (
            one.category, decimal(one.plain), decimal(one.auto), f"{one.ratio.value:.2f}", one.choice,
            f"{one.share:.2f}", f"{one.worst_share:.2f}",
        )
        for one in found
    ]  # fmt: skip
    return aligned(("tokens/s", "plain", "auto", "ratio", "best fixed", "auto/best", "lowest"), rows)


def _block(one: CategoryComparison) -> list[str]:
    return [
        f"{one.category}: {one.ratio.value:.2f}x",
        f"  {one.plain:.1f} -> {one.auto:.1f} tokens/s",
        f"  best fixed: {one.choice}",
        f"  auto/best {one.share:.2f}, lowest {one.worst_share:.2f}",
    ]
