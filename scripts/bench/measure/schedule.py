"""Who runs when: prompts round-robin over categories, modes in turn on each, and what time is left."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from scripts.bench.measure.records import Book, Run, Unit

T = TypeVar("T")


class Mode(Protocol):
    """A way to answer."""

    @property
    def name(self) -> str: ...

    def answer(self, unit: Unit) -> Run: ...


def round_robin(rows: Sequence[T], category: Callable[[T], str], per_category: int | None = None) -> list[T]:
    """The first row of each category, then the second of each: a run cut short has all categories evenly."""
    queues: dict[str, list[T]] = {}
    for row in rows:
        queues.setdefault(category(row), []).append(row)
    depth = max((len(queue) for queue in queues.values()), default=0)
    depth = depth if per_category is None else min(depth, per_category)
    return [queue[i] for i in range(depth) for queue in queues.values() if i < len(queue)]


def in_turn(modes: Sequence[T], number: int) -> list[T]:
    """The modes in another order for each unit: each begins equally often, and half the rounds run backwards."""
    at = number % len(modes)
    order = [*modes[at:], *modes[:at]]
    return order[::-1] if number // len(modes) % 2 else order


@dataclass
class Clock:
    """What units took, by category, and so what the rest will take. ``minutes``: stop before more than that."""

    minutes: float | None = None
    now: Callable[[], float] = time.monotonic
    _took: dict[str, list[float]] = field(default_factory=dict)
    _began: float = 0.0

    def __post_init__(self) -> None:
        self._began = self.now()

    def took(self, category: str, seconds: float) -> None:
        self._took.setdefault(category, []).append(seconds)

    def guess(self, category: str) -> float | None:
        """Seconds that a unit of this category will take; None before the first of any."""
        known = self._took.get(category) or [s for times in self._took.values() for s in times]
        return sum(known) / len(known) if known else None

    def left(self, categories: Sequence[str]) -> float | None:
        """Seconds for units of these categories, the budget not considered."""
        guesses = [self.guess(category) for category in categories]
        known = [guess for guess in guesses if guess is not None]
        return sum(known) if len(known) == len(guesses) else None

    def spent(self, category: str) -> bool:
        """Whether a unit of this category would end after the budget."""
        if self.minutes is None:
            return False
        return self.now() - self._began + (self.guess(category) or 0.0) > 60 * self.minutes


def measure(
    units: Sequence[Unit],
    modes: Sequence[Mode],
    book: Book,
    clock: Clock,
    *,
    pause: float = 0.2,
    later: Sequence[str] = (),
    before: Callable[[Unit], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> int:
    """Try every mode on each unit that ``book`` lacks; the number of units finished. ``before`` is called with each.

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
        began, told = clock.now(), []
        for mode in in_turn(modes, number + len(units) - len(todo)):
            run = mode.answer(unit)
            book.add(unit, mode.name, run)
            told.append(f"{mode.name} {run.rate:.1f}")
            time.sleep(pause)
        clock.took(unit.category, clock.now() - began)
        left = clock.left([*(rest.category for rest in todo[number + 1 :]), *later])
        say(f"[{number + 1}/{len(todo)}] {unit.category} {unit.prompt}: {', '.join(told)}; {minutes(left)} left")
    return len(todo)


def end_tidily() -> None:
    """Let a request to end (SIGTERM) stop the servers too, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def minutes(seconds: float | None) -> str:
    """``3 min``, as one says it."""
    if seconds is None:
        return "an unknown time"
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
