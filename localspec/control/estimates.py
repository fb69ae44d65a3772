"""How likely a draft token is right: what its drafter says, corrected by what came of it lately.

Pure. ``sure`` is the drafter's own probability: a model's confidence, or the share of n-gram matches of that length
that went on alike in real text. In each of a few bands of it the share of right guesses is followed (a mean with older
verdicts forgotten, the drafter's word counting as so many of them) and the log-odds are moved by what it is off. What a
model will be worth before it guessed is forecast from how sure the target is of its own tokens (:class:`Outlook`).
"""

from __future__ import annotations

import math
from bisect import bisect

_EDGE = 0.003
#: Guesses of like sureness are corrected alike: one text goes on well after long matches only, another after all. And
#: what is usual in each band.
_BANDS, _USUAL = (0.6, 0.85, 0.945), (0.4, 0.75, 0.9, 0.975)
#: A drafter's word counts as so many verdicts; each verdict keeps so much of those before it.
_TRUST, _KEPT = 14.0, 0.94
#: Until there are verdicts drafters are believed less than they say: too long a draft costs more than too short a one.
_CAREFUL = -0.6
#: Verdicts that the target's word for a model counts as, and the most that is believed by it. So much of what a model
#: is worse at first guesses counts for those that follow too.
_FAITH, _MOST, _SHARED = 4.0, 0.9, 0.5
#: The same of what is learned of a pair from all its answers, and the memory of that, in verdicts; and what a step
#: without guesses leaves of the verdicts of one answer.
_PAIR, _PAIR_MEMORY, _FADED = 12.0, 100.0, 0.98
#: Until there are verdicts a model is believed so much less than the target's word says.
_WORSE = -0.1


def log_odds(p: float) -> float:
    """log p/(1-p), p kept away from 0 and 1."""
    p = min(1.0 - _EDGE, max(_EDGE, p))
    return math.log(p / (1.0 - p))


class _Band:
    """Verdicts of guesses of like sureness, older ones counting less: how many, how many right, how many expected."""

    def __init__(self, usual: float) -> None:
        self._usual = usual
        self._count = self._right = self._expected = 0.0
        self.shift = _CAREFUL  # what the log-odds of a guess are off

    def learn(self, sure: float, right: bool) -> None:
        self._count = _KEPT * self._count + 1.0
        self._right = _KEPT * self._right + right
        self._expected = _KEPT * self._expected + sure
        total, usual = _TRUST + self._count, _TRUST * self._usual
        found, said = log_odds((usual + self._right) / total), log_odds((usual + self._expected) / total)
        self.shift = found - said + _CAREFUL * _TRUST / total


class Calibration:
    """A drafter's confidence → the probability that the token is accepted."""

    def __init__(self) -> None:
        self._bands = [_Band(usual) for usual in _USUAL]

    def probability(self, sure: float) -> float:
        return 1.0 / (1.0 + math.exp(-(log_odds(sure) + self._bands[bisect(_BANDS, sure)].shift)))

    def learn(self, sure: float, right: bool) -> None:
        """A token that the drafter was ``sure`` of turned out ``right`` or wrong."""
        self._bands[bisect(_BANDS, sure)].learn(sure, right)


class Rate:
    """A share that is followed: the mean of verdicts, older ones forgotten, ``prior`` as good as ``weight`` of them."""

    def __init__(self, prior: float, weight: float = 3.0, memory: float = 40.0) -> None:
        self._prior, self._weight, self._keep = prior, weight, 1.0 - 1.0 / memory
        self._sum = self._count = 0.0

    @property
    def value(self) -> float:
        return (self._prior * self._weight + self._sum) / (self._weight + self._count)

    def learn(self, value: float) -> None:
        self._sum, self._count = self._keep * self._sum + value, self._keep * self._count + 1.0

    def fade(self, keep: float) -> None:
        """What was learned counts ``keep`` of what it did."""
        self._sum, self._count = keep * self._sum, keep * self._count


class Outlook:
    """What a model's next draft is worth before it is made: acceptance of its first token, and of each one after.

    A smaller model is right about as often as the target is ``sure`` of its own tokens: both find the same text easy.
    (Means of 43 answers of a 1.5B in eight categories, against the shares that a 0.5B had right: 0.03 apart, as a
    standard deviation.) What a pair is off is learned.
    """

    def __init__(self) -> None:
        self._pair = [Rate(_WORSE, _PAIR, _PAIR_MEMORY) for _ in range(2)]
        self.begin()

    def begin(self) -> None:
        """A new answer, of which only what the pair is off in general is known."""
        self._own = [Rate(0.0, _FAITH) for _ in range(2)]

    def first(self, sure: float) -> float:
        """Of the first guess, where the target was ``sure`` of its tokens lately."""
        return _probable(min(sure, _MOST) + self._off(0))

    def rest(self, sure: float) -> float:
        """Of each later guess, those before it being right."""
        return _probable(min(sure, _MOST) + self._off(1) + min(0.0, _SHARED * self._own[0].value))

    def learn(self, later: bool, right: float, sure: float) -> None:
        """The first guess in a row, or a ``later`` one, was right: 1, wrong: 0, or so likely to be right."""
        self._own[later].learn(right - min(sure, _MOST) - self._pair[later].value)
        self._pair[later].learn(right - sure)  # with no most: easy texts would say too much good of it for hard ones

    def fade(self) -> None:
        """A step without its guesses: what was seen of this answer counts less, so that it is tried again some day."""
        for rate in self._own:
            rate.fade(_FADED)

    def _off(self, later: int) -> float:
        return self._pair[later].value + self._own[later].value


def _probable(p: float) -> float:
    return min(1.0 - _EDGE, max(_EDGE, p))
