"""Order of the runs: prompts round-robin over categories, modes in rotating order, within a time budget."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from scripts.bench.measure.records import Run, RunFile, Unit

T = TypeVar("T")


class Mode(Protocol):
    """A program and its settings."""

    @property
    def name(self) -> str: ...

    def answer(self, unit: Unit) -> Run: ...


def round_robin(rows: Sequence[T], category: Callable[[T], str], per_category: int | None = None) -> list[T]:
    """Return the first row of each category, then the second of each, so that an interrupted run covers all evenly."""
    queues: dict[str, list[T]] = {}
    for row in rows:
        queues.setdefault(category(row), []).append(row)
    depth = max((len(queue) for queue in queues.values()), default=0)
    depth = depth if per_category is None else min(depth, per_category)
    return [queue[i] for i in range(depth) for queue in queues.values() if i < len(queue)]


def in_turn(modes: Sequence[T], number: int) -> list[T]:
    """Rotate the modes for each unit: each begins equally often, and half of the rounds are reversed."""
    at = number % len(modes)
    order = [*modes[at:], *modes[:at]]
    return order[::-1] if number // len(modes) % 2 else order


@dataclass
class Clock:
    """Forecasts the time of units from earlier ones of their category. ``minutes``: the budget."""

    minutes: float | None = None
    now: Callable[[], float] = time.monotonic
    _took: dict[str, list[float]] = field(default_factory=dict)
    _began: float = 0.0

    def __post_init__(self) -> None:
        self._began = self.now()

    def took(self, category: str, seconds: float) -> None:
        self._took.setdefault(category, []).append(seconds)

    def guess(self, category: str) -> float | None:
        """Return the expected seconds of a unit; None before the first."""
        known = self._took.get(category) or [s for times in self._took.values() for s in times]
        return sum(known) / len(known) if known else None

    def left(self, categories: Sequence[str]) -> float | None:
        """Return the expected seconds of units of these categories."""
        guesses = [self.guess(category) for category in categories]
        known = [guess for guess in guesses if guess is not None]
        return sum(known) if len(known) == len(guesses) else None

    def spent(self, category: str) -> bool:
        """Return True if a unit of this category would exceed the budget."""
        if self.minutes is None:
            return False
        return self.now() - self._began + (self.guess(category) or 0.0) > 60 * self.minutes


def measure(
    units: Sequence[Unit],
    modes: Sequence[Mode],
    book: RunFile,
    clock: Clock,
    *,
    pause: float = 0.2,
    later: Sequence[str] = (),
    before: Callable[[Unit], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> int:
    """Run every mode on each unit that ``book`` lacks, and return their number. ``before`` is called with each unit.

    ``later``: categories of what another call will measure, for the estimate of the time that is left.
    """
    say = tell or (lambda text: print(text, file=sys.stderr, flush=True))
    todo = [unit for unit in units if not book.has(unit)]
    if len(todo) < len(units):
        say(f"{len(units) - len(todo)} of {len(units)} are in {book.path} already")
    for number, unit in enumerate(todo):
        if clock.spent(unit.category):
            say(f"the time is up: {len(todo) - number} left; the same command goes on")
            return number
        if before is not None:
            before(unit)
        began, lines = clock.now(), []
        for mode in in_turn(modes, number + len(units) - len(todo)):
            run = mode.answer(unit)
            book.add(unit, mode.name, run)
            lines.append(f"{mode.name} {run.rate:.1f}")
            time.sleep(pause)
        clock.took(unit.category, clock.now() - began)
        left = clock.left([*(rest.category for rest in todo[number + 1 :]), *later])
        say(f"[{number + 1}/{len(todo)}] {unit.category} {unit.prompt}: {', '.join(lines)}; {minutes(left)} left")
    return len(todo)


def end_tidily() -> None:
    """Stop the servers on SIGTERM as on Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def minutes(seconds: float | None) -> str:
    """Format seconds as ``3 min``."""
    if seconds is None:
        return "an unknown time"
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
