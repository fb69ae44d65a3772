"""The draft of one step while it is made, and the value of verifying a part of it. Pure.

With q_i the probability that the first i draft tokens are all accepted, a pass over ``pending`` + k tokens yields
1 + q_1 + … + q_k tokens on average and takes c(pending + k) seconds. Each of them is worth λ, the seconds that a token
took lately: this maximises the tokens a second of the whole answer, the best ratio of one pass does not (marginal value
theorem). So the value of a draft is λ · Σ q_i − c(pending + k), in seconds, and that of none is −c(pending).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from localspec.control.base import Budget
from localspec.control.costs import LiveCurve
from localspec.draft.base import Draft, Guess

#: Time of a decision and of a guess in Python, in seconds.
PYTHON_S = 6e-5


@dataclass(frozen=True)
class Choice:
    """Verify the first ``length`` tokens in a pass of ``width`` tokens, which is worth ``value`` seconds.

    ``pace``: expected seconds a token, drafting included.
    """

    value: float
    length: int
    width: int
    pace: float = float("inf")


@dataclass
class Plan:
    """Guesses of one step so far: ``reach[i]`` is the probability that the first i + 1 are all accepted.

    ``worth`` is λ, in seconds. ``caution``: share by which the extra time of a wide pass is overrated, so that the
    cheaper of two drafts of nearly the same value is taken. ``checkpoint``: seconds of making one and returning to it.
    """

    curve: LiveCurve
    budget: Budget
    worth: float
    caution: float = 0.0
    checkpoint: float = 0.0
    tokens: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    reach: list[float] = field(default_factory=list)

    @property
    def q(self) -> float:
        """Probability that all guesses so far are accepted."""
        return self.reach[-1] if self.reach else 1.0

    @property
    def full(self) -> bool:
        """True if the draft may have no more tokens."""
        return len(self.tokens) >= self.budget.max_draft

    def _cost(self, width: int) -> float:
        alone = self.curve.seconds(width, self.budget.cached)
        price = self.budget.seconds  # in a short context
        return alone if price is None else alone + price(width) - self.curve.seconds(width)

    def _checkpoint(self, depth: int, q: float, extra: float) -> float:
        """Return the seconds that ``depth`` draft tokens cost beside their pass, all accepted with probability ``q``.

        Where they are too many to be taken back, a checkpoint is made before the pass, and if one is wrong, what was
        accepted is decoded again: at most the ``extra`` seconds of the pass.
        """
        return self.checkpoint + (1.0 - q) * extra if depth > self.budget.rollback else 0.0

    def add(self, guess: Guess, name: str, probability: float) -> None:
        """Append a guess that is accepted with ``probability`` if those before it are."""
        self.reach.append(self.q * probability)
        self.tokens.append(guess.token)
        self.names.append(name)
        self.confidences.append(guess.confidence)

    def best(self, extra: Iterable[float] = ()) -> Choice:
        """Return the best length and width, if guesses with the reach ``extra`` followed those so far."""
        reach = [*self.reach, *extra]
        pending, most = self.budget.pending, self.budget.max_draft
        plain = self._cost(pending)
        found = Choice(-plain, 0, pending)
        gained, at = 0.0, 0
        for width in self.curve.widths:
            if width <= pending or width - pending > most:
                continue
            while at < min(len(reach), width - pending):
                gained += reach[at]
                at += 1
            cost, all_right = self._cost(width), reach[at - 1] if 0 < at == width - pending else 0.0
            value = self.worth * gained - cost - self.caution * (cost - plain) - PYTHON_S
            value -= self._checkpoint(width - pending, all_right, cost - plain)
            if value > found.value:
                found = Choice(value, at, width)
            if width - pending > len(reach):
                break  # wider ones would be padded even more
        return found

    def forecast(self, first: float, rest: float, start: float, step: float) -> Choice:
        """Return the best draft that a model could add to the guesses so far.

        Its first guess is accepted with the probability ``first`` and takes ``start`` seconds, each later one with
        ``rest`` and ``step``.
        """
        pending, so_far, most = self.budget.pending, len(self.tokens), self.budget.max_draft
        found = Choice(float("-inf"), so_far, pending + so_far)
        gained, q, drafted, plain = sum(self.reach), self.q * first, 0, self._cost(pending)
        all_right = self.q
        for width in self.curve.widths:
            depth = width - pending - so_far
            if depth < 1 or width - pending > most:
                continue
            while drafted < depth:
                gained, all_right, q, drafted = gained + q, q, q * rest, drafted + 1
            time = start + (step + PYTHON_S) * depth - step
            cost = self._cost(width)
            value = self.worth * gained - cost - PYTHON_S - time
            value -= self._checkpoint(width - pending, all_right, cost - plain)
            if value > found.value:
                found = Choice(value, so_far + depth, width, (self.worth * gained - value) / (1.0 + gained))
            if q * self.worth < step:
                break
        return found

    def draft(self, choice: Choice) -> Draft:
        """Return the first tokens by ``choice``, padded to its width."""
        k = choice.length
        padding = choice.width - self.budget.pending - k if k else 0
        filler = self.tokens[:k][-1:] * padding
        names, confidences = tuple(self.names[:k]), tuple(self.confidences[:k])
        names, confidences = names + names[-1:] * padding, confidences + (0.0,) * padding
        cells = self.curve.seconds(1, self.budget.cached) - self.curve.seconds(1)
        gains = [self.worth * reach - cells for reach in self.reach[:k]] + [0.0] * padding
        return Draft((*self.tokens[:k], *filler), names, confidences, padding, tuple(gains))
