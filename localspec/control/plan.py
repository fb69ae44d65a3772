"""The draft of one step while it is made, and what verifying so much of it would be worth. Pure.

With q_i the probability that the first i draft tokens are all right, a pass over ``missing`` + k tokens is expected to
bring 1 + q_1 + … + q_k tokens and takes c(missing + k). A token saved is worth the time that a token takes lately (the
marginal value theorem: what maximises tokens a second in the long run is not the best ratio of one pass). So the worth
of a draft is ``worth`` · Σ q_i − c(missing + k), in seconds, and that of none is -c(missing).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from localspec.control.base import Budget
from localspec.control.costs import LiveCurve
from localspec.draft.base import Draft, Guess

#: About what Python takes for a step that drafts, and for a guess of a model: it matters for the smallest models only.
DRAFT_S, GUESS_S = 1e-4, 3e-5


@dataclass(frozen=True)
class Choice:
    """Verify the first ``length`` tokens in a pass ``width`` wide: worth ``value`` seconds.

    ``pace``: seconds a token that it is expected to take, the drafting included.
    """

    value: float
    length: int
    width: int
    pace: float = float("inf")


@dataclass
class Plan:
    """Guesses of one step so far: ``reach[i]`` is the probability that the first i + 1 are all right.

    ``caution``: what verifying costs counts so much more than it is: of two drafts that are worth nearly the same the
    cheaper one is taken.
    """

    curve: LiveCurve
    budget: Budget
    worth: float
    caution: float = 0.0
    tokens: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    reach: list[float] = field(default_factory=list)

    @property
    def q(self) -> float:
        """The probability that all guesses so far are right."""
        return self.reach[-1] if self.reach else 1.0

    @property
    def full(self) -> bool:
        return len(self.tokens) >= self.budget.max_draft

    def _cost(self, width: int) -> float:
        budget = self.budget
        return self.curve.seconds(width, budget.cached) if budget.seconds is None else budget.seconds(width)

    def add(self, guess: Guess, name: str, probability: float) -> None:
        """Append a guess that is right with ``probability`` when those before it are."""
        self.reach.append(self.q * probability)
        self.tokens.append(guess.token)
        self.names.append(name)
        self.confidences.append(guess.confidence)

    def best(self, extra: Iterable[float] = ()) -> Choice:
        """The best length and width, were the guesses so far followed by some with the reach ``extra``."""
        reach = [*self.reach, *extra]
        missing, most = self.budget.pending, self.budget.max_draft
        plain = self._cost(missing)
        found = Choice(-plain, 0, missing)
        gained, at = 0.0, 0
        for width in self.curve.widths:
            if width <= missing or width - missing > most:
                continue
            while at < min(len(reach), width - missing):
                gained += reach[at]
                at += 1
            cost = self._cost(width)
            value = self.worth * gained - cost - self.caution * (cost - plain) - DRAFT_S
            if value > found.value:
                found = Choice(value, at, width)
            if width - missing > len(reach):
                break  # wider ones would be padded even more
        return found

    def forecast(self, first: float, rest: float, start: float, step: float) -> Choice:
        """The best a drafter could do from here: acceptance ``first``, then ``rest``; seconds ``start``, ``step``."""
        missing, so_far, most = self.budget.pending, len(self.tokens), self.budget.max_draft
        found = Choice(float("-inf"), so_far, missing + so_far)
        gained, q, drafted = sum(self.reach), self.q * first, 0
        for width in self.curve.widths:
            depth = width - missing - so_far
            if depth < 1 or width - missing > most:
                continue
            while drafted < depth:
                gained, q, drafted = gained + q, q * rest, drafted + 1
            time = start + (step + GUESS_S) * depth - step
            value = self.worth * gained - self._cost(width) - DRAFT_S - time
            if value > found.value:
                found = Choice(value, so_far + depth, width, (self.worth * gained - value) / (1.0 + gained))
            if q * self.worth < step:
                break
        return found

    def draft(self) -> Draft:
        """What is best verified of it, padded to the width that it is best verified in."""
        choice = self.best()
        k = choice.length
        padding = choice.width - self.budget.pending - k if k else 0
        filler = self.tokens[:k][-1:] * padding
        names, sure = tuple(self.names[:k]), tuple(self.confidences[:k])
        return Draft((*self.tokens[:k], *filler), names + names[-1:] * padding, sure + (0.0,) * padding, padding)
