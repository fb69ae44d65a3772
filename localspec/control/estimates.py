"""How likely a draft token is right: what its drafter says, corrected by what came of it lately.

Pure. ``sure`` is the drafter's own probability: a model's confidence, or the share of n-gram matches of that length
that went on alike in real text. The correction is a number for each of a few bands of it, added to the log-odds and
moved by every verdict (online logistic regression on the intercept, with forgetting): a change of text is followed.
"""

from __future__ import annotations

import math
from bisect import bisect

_EDGE = 0.003
_RATE, _KEPT, _FAR = 0.3, 0.985, 6.0
#: Guesses of like sureness are corrected alike: one text goes on well after long matches only, another after all.
_BANDS = (0.6, 0.85, 0.945)
#: At first drafters are believed a little less than their word: a draft that is too long costs more than one too short.
_CAREFUL = -0.5


def log_odds(p: float) -> float:
    """log p/(1-p), p kept away from 0 and 1."""
    p = min(1.0 - _EDGE, max(_EDGE, p))
    return math.log(p / (1.0 - p))


class Calibration:
    """A drafter's confidence → the probability that the token is accepted."""

    def __init__(self) -> None:
        self._shifts = [_CAREFUL] * (len(_BANDS) + 1)

    def probability(self, sure: float) -> float:
        return 1.0 / (1.0 + math.exp(-(log_odds(sure) + self._shifts[bisect(_BANDS, sure)])))

    def learn(self, sure: float, right: bool) -> None:
        """A token that the drafter was ``sure`` of turned out ``right`` or wrong."""
        band = bisect(_BANDS, sure)
        shift = _KEPT * self._shifts[band] + _RATE * (right - self.probability(sure))
        self._shifts[band] = max(-_FAR, min(_FAR, shift))


class Rate:
    """A share that is followed: the mean of verdicts, older ones forgotten, ``prior`` as good as ``weight`` of them."""

    def __init__(self, prior: float, weight: float = 4.0, memory: float = 40.0) -> None:
        self._prior, self._weight, self._keep = prior, weight, 1.0 - 1.0 / memory
        self._sum = self._count = 0.0

    @property
    def value(self) -> float:
        return (self._prior * self._weight + self._sum) / (self._weight + self._count)

    def learn(self, value: float) -> None:
        self._sum, self._count = self._keep * self._sum + value, self._keep * self._count + 1.0


class Outlook:
    """What a model's next draft is worth before it is made: acceptance of its first token, and of each one after."""

    def __init__(self, first: float = 0.7, rest: float = 0.8) -> None:
        self.first, self.rest = Rate(first), Rate(rest)

    def learn(self, later: bool, right: float) -> None:
        """The first guess in a row, or a ``later`` one, was right: 1, wrong: 0, or so likely to be right."""
        (self.rest if later else self.first).learn(right)
