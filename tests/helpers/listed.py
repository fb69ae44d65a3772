"""Parts of decisions that are written down: drafters with a list of guesses, grammars, costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from localspec.control.base import Budget
from localspec.control.controller import Controller
from localspec.control.costs import Costs, Curve, DraftCosts
from localspec.control.plan import Plan
from localspec.draft.base import Guess, Prefix
from localspec.sampling import Sampler
from tests.helpers.support import GREEDY

#: 10 ms for a row, 1 ms for each more.
MILD = Curve((1, 2, 3, 4, 6, 8), (0.010, 0.011, 0.012, 0.013, 0.015, 0.017))
FREE = Curve((1, 64), (0.010, 0.0101))


class Listed:
    """Drafter with a list of guesses. One that decodes takes ``step`` seconds for each, and first reads ``unread``."""

    decode_s = 0.0

    def __init__(self, name: str, guesses: Sequence[tuple[int, float]], step: float = 0.0, unread: int = 1) -> None:
        self.name, self.guesses, self.free, self.step, self.unread = name, guesses, step == 0.0, step, unread
        self.asked = 0
        self.ahead: list[tuple[int, ...]] = []

    def propose(self, prefix: Prefix, ahead: Sequence[int] = ()) -> Iterator[Guess]:
        self.ahead.append(tuple(ahead))
        for token, confidence in self.guesses[len(ahead) :]:
            self.asked += 1
            self.decode_s += self.step
            yield Guess(token, confidence)

    def lag(self, prefix: Prefix, ahead: Sequence[int] = ()) -> int:
        return self.unread

    def observe(self, prefix: Prefix) -> None: ...

    def close(self) -> None: ...


class Grammar:
    """Constraint that demands ``demands`` next, and allows ``allows`` of any tokens."""

    def __init__(self, demands: Sequence[int] = (), allows: int = 99) -> None:
        self.demands, self.allows = demands, allows

    def forced(self, tokens: Sequence[int], ahead: Sequence[int] = ()) -> Sequence[int]:
        return self.demands

    def legal(self, tokens: Sequence[int], following: Sequence[int]) -> int:
        return min(self.allows, len(following))


def control_of(verify: Curve = MILD, **models: float) -> Controller:
    """Control with drafting models by name and the seconds of their step."""
    return Controller(
        Costs(verify, {name: DraftCosts(Curve((1,), (step,)), step) for name, step in models.items()}), 64
    )


def under(grammar: Any) -> Prefix:
    return Prefix([1, 2, 3], Sampler(GREEDY, grammar))


def plan_of(control: Controller, most: int = 8, *likely: float) -> Plan:
    plan = Plan(control.verify, Budget(1, most, 99), 0.010)
    for p in likely:
        plan.add(Guess(9, p), "model", p)
    return plan
