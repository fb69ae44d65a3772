"""Ratios of paired runs: one for each prompt (median of its repeats), with their median and a bootstrap interval."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from scripts.bench.measure.records import Run, Study, Unit

Quantity = Callable[[Run], float]
ROUNDS = 4000


@dataclass(frozen=True)
class Ratio:
    """The median of ``count`` per-prompt ratios, with a 95% percentile interval of bootstrapped medians."""

    median: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def rate(run: Run) -> float:
    return run.rate


def whole(run: Run) -> float:
    return run.whole


def prefill(run: Run) -> float:
    return run.prefill


def first(run: Run) -> float:
    return run.first_s


def interval(values: Sequence[float], rounds: int = ROUNDS, seed: int = 0) -> Ratio | None:
    """Return median and interval of ``values``, resampled with replacement ``rounds`` times; None without values."""
    if not values:
        return None
    given = np.asarray(values, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(0, len(given), (rounds, len(given)))
    low, high = np.percentile(np.median(given[picks], axis=1), [2.5, 97.5])
    return Ratio(float(np.median(given)), float(low), float(high), len(given))


def chosen(study: Study, category: str | None, **more: int | str) -> list[Unit]:
    """Return the units of a category (None: all) under these conditions."""
    return [
        unit
        for unit in study.units
        if category in (None, unit.category) and all(dict(unit.more).get(key) == value for key, value in more.items())
    ]


def per_prompt(study: Study, units: Sequence[Unit], value: Callable[[dict[str, Run]], float | None]) -> list[float]:
    """Return one value for each prompt, the median of its repeats. Units without a value are left out."""
    found: dict[tuple[str, str], list[float]] = {}
    for unit in units:
        one = value(study.units[unit])
        if one is not None:
            found.setdefault((unit.category, unit.prompt), []).append(one)
    return [statistics.median(values) for values in found.values()]


def ratios(study: Study, units: Sequence[Unit], one: str, other: str | None, of: Quantity = rate) -> list[float]:
    """Return ``one`` over ``other`` for each prompt; over the fastest peer on that prompt if ``other`` is None."""
    peers = study.of_side("peer")

    def value(runs: dict[str, Run]) -> float | None:
        below = max((of(runs[peer]) for peer in peers), default=0.0) if other is None else of(runs[other])
        above = of(runs[one])
        return above / below if above > 0 and below > 0 else None

    return per_prompt(study, units, value)


def ratio(
    study: Study, one: str, other: str | None, category: str | None = None, of: Quantity = rate, **more: int | str
) -> Ratio | None:
    """Return the median ratio of ``one`` to ``other`` over the prompts of a category under these conditions."""
    return interval(ratios(study, chosen(study, category, **more), one, other, of))


def median_of(study: Study, mode: str, units: Sequence[Unit], of: Quantity = rate) -> float | None:
    """Return the median of a mode's quantity over the prompts."""
    values = per_prompt(study, units, lambda runs: of(runs[mode]) or None)
    return statistics.median(values) if values else None


def best_peer(study: Study, category: str | None, of: Quantity = rate, **more: int | str) -> str | None:
    """Return the peer's mode with the highest median. It is chosen from the same runs, which favours the peer."""
    units = chosen(study, category, **more)
    peers = study.of_side("peer")
    return max(peers, key=lambda mode: median_of(study, mode, units, of) or 0.0, default=None) if units else None


def against_best(study: Study, one: str, category: str | None, of: Quantity = rate) -> list[float]:
    """Return ``one`` over the best peer of the category, for each prompt."""
    found = []
    for name in study.categories if category is None else [category]:
        best = best_peer(study, name, of)
        found += ratios(study, chosen(study, name), one, best, of) if best else []
    return found


def against_unseen(study: Study, one: str, category: str | None) -> list[float]:
    """Return ``one`` over a peer's mode chosen from the category's other prompts, for each prompt.

    Of several modes that do the same, the fastest in the same runs is the luckiest.
    """
    found = []
    for name in study.categories if category is None else [category]:
        units = chosen(study, name)
        for prompt in dict.fromkeys(unit.prompt for unit in units):
            rest = [unit for unit in units if unit.prompt != prompt]
            rated = {mode: median_of(study, mode, rest) or 0.0 for mode in study.of_side("peer")} if rest else {}
            if rated:
                best = max(rated, key=rated.__getitem__)
                found += ratios(study, [unit for unit in units if unit.prompt == prompt], one, best)
    return found


def total(study: Study, mode: str, units: Sequence[Unit], field: str) -> float | None:
    """Return the sum of a field over runs; None if no run has it."""
    values = [getattr(study.units[unit][mode], field) for unit in units]
    known = [value for value in values if value is not None]
    return float(sum(known)) if known else None


def share(study: Study, mode: str, units: Sequence[Unit], part: str, of: str) -> float | None:
    """Return the sum of one field over the sum of another, such as accepted of proposed."""
    above, below = total(study, mode, units, part), total(study, mode, units, of)
    return above / below if above is not None and below else None


def same_answers(study: Study, one: str, other: str, units: Sequence[Unit]) -> int:
    """Count the units whose answers have the same tokens in both modes."""
    return sum(study.units[unit][one].digest == study.units[unit][other].digest for unit in units)
