"""Logits row → token, by Gumbel-max with noise from a counter-based hash of (seed, position, token id).

The token at a position is a function of its row and the tokens before it. A drafter that samples with the same noise
therefore agrees with the target as often as their distributions allow, and whatever it proposes cannot change the text
(Daliri, Musco, Suresh, arXiv 2408.07978).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from localspec.params import SamplingParams
from localspec.protocols import Constraint
from localspec.sampling.breakers import Breakers
from localspec.sampling.noise import xtc_coin
from localspec.sampling.penalties import History, adjustments
from localspec.sampling.race import race, race_all
from localspec.sampling.rows import Row, blocks
from localspec.sampling.settled import settled
from localspec.sampling.truncation import temperature, truncate

#: Up to this vocabulary size a whole softmax is as quick, and blocks would hold too little of its mass.
_SMALL = 8192
#: How many choices that lead beyond the budget of a structured answer are taken back before it is brought to its end.
_CHOICES = 16


class Sampler:
    """Chooses the tokens of one generation. ``breakers`` are DRY's, where ``params`` ask for it.

    ``tokens`` (the prompt and what was generated) is one list that only grows; ``ahead`` are draft tokens after it that
    are looked at without being settled.
    """

    def __init__(
        self, params: SamplingParams, constraint: Constraint | None = None, breakers: Breakers | None = None
    ) -> None:
        self.params, self.constraint = params.seeded(), constraint
        self._seed = self.params.seed or 0
        self._greedy, self._truncates, self._excludes = params.greedy, params.truncates, params.excludes
        self._adjustments = adjustments(params, breakers)
        self._history = History()

    def pick(self, row: Row, tokens: Sequence[int], ahead: Sequence[int] = ()) -> int:
        """The token that follows ``tokens`` and then ``ahead``, given the target's logits (n_vocab,) there."""
        return self.choose(self.shape(row, tokens, ahead), len(tokens) + len(ahead))

    def shape(self, row: Row, tokens: Sequence[int], ahead: Sequence[int] = ()) -> Row:
        """The logits to choose from: ``row`` itself, or a copy changed by what the tokens before it say.

        The constraint comes last and knows no exception: where bias or penalties forbid all that it allows, they are
        left out.
        """
        shaped = row
        if self._adjustments:
            shaped = row.copy()
            self._history.follow(tokens, ahead)
            for adjustment in self._adjustments:
                adjustment.apply(shaped, self._history)
        if self.constraint is None:
            return shaped
        allowed = self.constraint.allowed(tokens, ahead)[: len(row)]  # a drafter may lack padding tokens
        for logits in (shaped, row, np.zeros_like(row)):
            masked = np.where(allowed, logits, np.float32(-np.inf))
            if masked.max() > -np.inf:
                break
        return self._within_budget(self.constraint, masked, tokens, ahead)

    def _within_budget(self, constraint: Constraint, row: Row, tokens: Sequence[int], ahead: Sequence[int]) -> Row:
        """``row`` without choices after which the answer could not be ended in time; after a few, only its way out."""
        for _ in range(_CHOICES):
            token = self.choose(row, len(tokens) + len(ahead))
            if row[token] == -np.inf:
                break
            if constraint.fits(tokens, ahead, token):
                return row
            row[token] = -np.inf
        row[:] = -np.inf
        token = constraint.way_out(tokens, ahead)
        if token < len(row):
            row[token] = 0.0
        return row

    def choose(self, row: Row, position: int) -> int:
        """The token at ``position`` (counted from the first prompt token), given its shaped logits (n_vocab,)."""
        if self._greedy:
            return int(row.argmax())
        if not self._truncates and self.params.dynatemp_range == 0.0:
            return race_all(row, self.params.temperature, self._seed, position)
        kept = truncate(row, self.params, self._excluding(position))
        if len(kept.ids) == 1:
            return int(kept.ids[0])
        return int(kept.ids[race(kept.logits, temperature(kept, self.params), kept.ids, self._seed, position)])

    def settled(self, row: Row, position: int, noise: float) -> bool:
        """Whether the choice surely stays when differences between the shaped ``row``'s logits move by ``noise``.

        ``noise`` is in logits, before the temperature. False where it cannot be told. A repeat penalty stretches
        differences, which counts as more noise.
        """
        if self.params.penalises:
            noise *= max(self.params.repeat_penalty, 1.0 / self.params.repeat_penalty)
        return settled(row, self.params, position, noise, self._excluding(position))

    def _excluding(self, position: int) -> bool:
        """Whether XTC acts at ``position``."""
        return self._excludes and xtc_coin(self._seed, position) <= self.params.xtc_probability

    @staticmethod
    def confidence(row: Row, token: int) -> float:
        """About the probability of ``token`` at temperature 1: never less, hardly more where the row is peaked.

        The normaliser is summed over the maxima of blocks of the row, which hold nearly all of its mass, so that a
        draft token costs one pass of comparisons instead of one of exponentials.
        """
        if row[token] == -np.inf:
            return 0.0
        maxima = row if len(row) < _SMALL else blocks(row).max(axis=0)
        mass = np.exp(np.minimum(maxima - row[token], 80.0))  # e^80 is finite in float32
        return 1.0 / max(1.0, float(mass.sum()))
