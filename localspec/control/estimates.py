"""Probabilities that are learned: decayed Beta distributions, and what is built of them.

A confidence says in advance how likely an outcome is: the drafter's for one guess, the target's for the guesses of a
drafting model. A :class:`Beta` follows how often it came true and corrects it.
"""

from __future__ import annotations

import math
from bisect import bisect

#: Verdicts that the prior counts as.
WEIGHT = 14.0
#: Memory, in verdicts, and of the time of a token, in tokens.
MEMORY = 17.0
#: Memory of the verdicts of a pair in all answers, in verdicts.
PAIR_MEMORY = 50.0
#: Correction without verdicts, in log-odds. Below 0, because a wrong guess costs more than a right one gains.
CAUTION = -0.7
#: Edges of the bands of confidence that are corrected separately, as probabilities.
BANDS = (0.5, 0.9)
#: Distance that probabilities keep from 0 and 1.
EDGE = 0.003


def log_odds(p: float) -> float:
    """Return log p/(1-p), with p kept away from 0 and 1."""
    p = min(1.0 - EDGE, max(EDGE, p))
    return math.log(p / (1.0 - p))


def probability(odds: float) -> float:
    """Return the probability of log-odds."""
    return 1.0 / (1.0 + math.exp(-odds))


class Beta:
    """Decayed Beta distribution of an outcome that was expected with some probability.

    ``shift`` corrects the expected log-odds. It begins at ``caution`` and follows about the last ``memory`` verdicts.
    ``prior_fades``: verdicts replace the prior, which is only where to begin; otherwise it keeps its weight.
    """

    def __init__(self, caution: float = CAUTION, memory: float = MEMORY, *, prior_fades: bool = False) -> None:
        self.shift = self._caution = caution
        self._keep = 1.0 - 1.0 / memory
        self._prior, self._prior_kept = WEIGHT, self._keep if prior_fades else 1.0
        self._count = self._right = self._expected = 0.0

    def corrected(self, expected: float) -> float:
        """Return the probability of an outcome that is ``expected`` with some probability."""
        return probability(log_odds(expected) + self.shift)

    def learn(self, expected: float, right: float) -> None:
        """Add a verdict from 0, wrong, to 1, right, where ``expected`` was its probability."""
        self._prior *= self._prior_kept
        self._count = self._keep * self._count + 1.0
        self._right = self._keep * self._right + right
        self._expected = self._keep * self._expected + expected
        self._update()

    def fade(self) -> None:
        """Forget as much as a verdict makes it forget."""
        if self._count < EDGE:
            return
        self._prior += (1.0 - self._keep) * (WEIGHT - self._prior)
        self._count, self._right, self._expected = (self._keep * n for n in (self._count, self._right, self._expected))
        self._update()

    def _update(self) -> None:
        total, mean = self._prior + self._count, self._expected / self._count
        found = (self._prior * mean + self._right) / total
        self.shift = log_odds(found) - log_odds(mean) + self._caution * self._prior / total


class Calibration:
    """Maps a drafter's confidence to the probability that the token is accepted, a :class:`Beta` for each band."""

    def __init__(self) -> None:
        self._bands = [Beta() for _ in range(len(BANDS) + 1)]

    def probability(self, confidence: float) -> float:
        """Return the probability that a guess of this confidence is accepted."""
        return self._bands[bisect(BANDS, confidence)].corrected(confidence)

    def learn(self, confidence: float, right: bool) -> None:
        """Learn that a guess of this confidence was ``right`` or wrong."""
        self._bands[bisect(BANDS, confidence)].learn(confidence, right)


class AcceptanceForecast:
    """Forecasts the acceptance of a model's guesses before they are made, from the target's confidence.

    A smaller model is right about as often as the target is confident: both find the same text easy. (43 answers of a
    1.5B: the shares that a 0.5B had right differ from the means of the target's confidence by 0.03.) One
    :class:`Beta` corrects this for the pair, in all answers, and one for the current answer; both separately for the
    first guess of a draft and for later ones.
    """

    def __init__(self) -> None:
        self._pair = [Beta(memory=PAIR_MEMORY, prior_fades=True) for _ in range(2)]
        self.begin()

    def begin(self) -> None:
        """Forget the last answer, and keep the statistics of the pair."""
        self._answer = [Beta(caution=0.0, prior_fades=True) for _ in range(2)]

    def first(self, confidence: float) -> float:
        """Return the probability that the first guess is accepted, where the target had this mean ``confidence``."""
        return self._probability(False, confidence)

    def rest(self, confidence: float) -> float:
        """Return the probability that each later guess is accepted, if those before it are."""
        return self._probability(True, confidence)

    def _probability(self, later: bool, confidence: float) -> float:
        return probability(log_odds(confidence) + self._pair[later].shift + self._answer[later].shift)

    def learn(self, later: bool, right: float, confidence: float) -> None:
        """Add a verdict on the first guess of a draft or a ``later`` one: 0, wrong, to 1, right."""
        expected = self._pair[later].corrected(confidence)
        self._pair[later].learn(confidence, right)
        self._answer[later].learn(expected, right)

    def fade(self) -> None:
        """Count the current answer less after a step without guesses, so that the model is tried again later."""
        for beta in self._answer:
            beta.fade()
