"""What a pair would bring at other costs: traces replayed by the automatic choice, and by every fixed one. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from localspec.bench.replay import automatic, best_fixed, replay
from localspec.bench.report import aligned, short
from localspec.bench.summary import Interval
from localspec.bench.trace import Trace
from localspec.control.base import FixedDepth
from localspec.control.costs import Costs

_NARROW = 60


@dataclass(frozen=True)
class Replayed:
    """One trace: seconds without drafting, with the automatic choice, and with ``best``, the best fixed one."""

    id: str
    category: str
    tokens: int
    plain_s: float
    auto_s: float
    best: str
    best_s: float

    @property
    def ratio(self) -> float:
        """Automatic over plain, in tokens a second."""
        return self.plain_s / self.auto_s

    @property
    def share(self) -> float:
        """Automatic over the best fixed choice in hindsight, in tokens a second."""
        return self.best_s / self.auto_s

    def record(self) -> dict[str, Any]:
        """What JSON can say."""
        return {**asdict(self), "ratio": self.ratio, "of_best_fixed": self.share}


@dataclass(frozen=True)
class Simulated:
    """All traces of a category: rates in tokens a second, and the fixed choice that was the best most often."""

    category: str
    traces: int
    plain: float
    auto: float
    best: float
    choice: str
    worst_share: float

    @property
    def ratio(self) -> Interval:
        """Automatic over plain; a replay is always the same, so that there is no interval."""
        return Interval(self.auto / self.plain, None, None)

    @property
    def share(self) -> float:
        """Automatic over the best fixed choice of each trace."""
        return self.auto / self.best

    def record(self) -> dict[str, Any]:
        """What JSON can say."""
        return {**asdict(self), "ratio": self.ratio.value, "of_best_fixed": self.share}


def replay_all(traces: Iterable[Trace], costs: Costs, sources: Sequence[str], widest: int) -> Iterator[Replayed]:
    """Each trace replayed at ``costs`` with the drafters ``sources``, in passes of at most ``widest``."""
    for trace in traces:
        if not trace.tokens:
            continue
        plain = replay(trace, costs, FixedDepth(0), sources=(), widest=widest)
        auto = automatic(trace, costs, sources=sources, widest=widest)
        best, found = best_fixed(trace, costs, sources=sources, widest=widest)
        yield Replayed(
            trace.id, trace.category, len(trace.tokens), plain.seconds, auto.seconds, best, found.seconds
        )  # fmt: skip


def simulated(replayed: Sequence[Replayed]) -> list[Simulated]:
    """Each category, and all of them when there is more than one."""
    categories = list(dict.fromkeys(one.category for one in replayed))
    found = [_sum(name, [one for one in replayed if one.category == name]) for name in categories]
    return found if len(categories) < 2 else [*found, _sum("all", replayed)]


def _sum(category: str, replayed: Sequence[Replayed]) -> Simulated:
    tokens = sum(one.tokens for one in replayed)

    def rate(seconds: Callable[[Replayed], float]) -> float:
        return tokens / sum(seconds(one) for one in replayed)

    return Simulated(
        category=category,
        traces=len(replayed),
        plain=rate(lambda one: one.plain_s),
        auto=rate(lambda one: one.auto_s),
        best=rate(lambda one: one.best_s),
        choice=Counter(one.best for one in replayed).most_common(1)[0][0],
        worst_share=min(one.share for one in replayed),
    )


def simulation_lines(found: Sequence[Simulated], width: int) -> list[str]:
    """A table, or blocks of lines of at most 40 columns where it is narrow."""
    if width < _NARROW:
        return [line for one in found for line in _block(one)]
    rows = [
        (
            one.category, short(one.plain), short(one.auto), f"{one.ratio.value:.2f}", one.choice,
            f"{one.share:.2f}", f"{one.worst_share:.2f}",
        )
        for one in found
    ]  # fmt: skip
    return aligned(("tokens/s", "plain", "auto", "ratio", "best fixed", "auto/best", "lowest"), rows)


def _block(one: Simulated) -> list[str]:
    return [
        f"{one.category}: {one.ratio.value:.2f}x",
        f"  {one.plain:.1f} -> {one.auto:.1f} tokens/s",
        f"  best fixed: {one.choice}",
        f"  auto/best {one.share:.2f}, lowest {one.worst_share:.2f}",
    ]
