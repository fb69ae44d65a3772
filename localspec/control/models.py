"""Drafters that decode: what their guesses cost and are worth, and when reading the text pays for them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from localspec.control.costs import Curve, DraftCosts, LiveCurve
from localspec.control.estimates import AcceptanceForecast
from localspec.control.plan import Choice, Plan
from localspec.draft.base import Drafter, Guess
from localspec.params import MAX_VERIFY_WIDTH

#: Share of an answer's time that may be spent without an expected gain: on trials, and on Python's decisions.
EXPLORE = 0.01
#: Largest share of an answer's time that counts as gain forgone: the answer may end at any token.
AT_RISK = 0.15


class DraftingModel:
    """Costs and acceptance of a drafter that decodes.

    ``pace``: seconds a token with it where no lookup helps. ``forgone``: seconds that it would have gained in this
    answer, had it read the text.
    """

    def __init__(self, costs: DraftCosts) -> None:
        self._first = LiveCurve(costs.first, MAX_VERIFY_WIDTH)
        self._step = LiveCurve(Curve((1,), (costs.step,)), 1)
        self.acceptance = AcceptanceForecast()
        self.pace = math.inf
        self.forgone = 0.0

    @property
    def costs(self) -> DraftCosts:
        """Costs as they are now."""
        return DraftCosts(self._first.now(), self._step.seconds(1))

    def begin(self) -> None:
        """Start a new answer."""
        self.acceptance.begin()
        self.forgone = 0.0

    def next(self, plan: Plan, confidence: float) -> Choice:
        """Return the best draft that continues ``plan`` after a guess of this model."""
        step, rest = self._step.seconds(1), self.acceptance.rest(confidence)
        return plan.forecast(rest, rest, step, step)

    def start(self, plan: Plan, confidence: float, lag: int) -> tuple[Choice, float]:
        """Return the best draft that continues ``plan`` with this model, and the seconds that catching up takes.

        It reads ``lag`` tokens first. Those that it has to read in any case count as part of the draft.
        """
        usual = self._first.seconds(min(lag, plan.budget.pending + len(plan.tokens)))
        acceptance = self.acceptance
        choice = plan.forecast(acceptance.first(confidence), acceptance.rest(confidence), usual, self._step.seconds(1))
        if not plan.tokens:
            self.pace = choice.pace
        return choice, self._first.seconds(lag) - usual

    def observe(self, lag: int, seconds: float) -> None:
        """Learn that a guess took ``seconds``, after reading ``lag`` tokens; 0: the guess before."""
        if lag:
            self._first.observe(lag, seconds)
        else:
            self._step.observe(1, seconds)


@dataclass
class Asked:
    """A model that is asked, after ``at`` draft tokens; it reads ``lag`` tokens before its next guess."""

    drafter: Drafter
    at: int
    lag: int
    guesses: Iterator[Guess]
