"""Sampler: logits row to token, by Gumbel-max with noise that is a hash of (seed, position, token id).

The token at a position is a function of its row and the tokens before it, so a draft cannot change the output. A
drafter that samples with the same noise agrees with the target as often as their distributions allow
(Daliri, Musco, Suresh, arXiv 2408.07978).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from localspec.params import SamplingParams
from localspec.protocols import Constraint
from localspec.sampling.gumbel_max import gumbel_max, gumbel_max_row
from localspec.sampling.noise import xtc_draw
from localspec.sampling.penalties import History, adjustments
from localspec.sampling.rows import Row, blocks
from localspec.sampling.sequence_breakers import SequenceBreakers
from localspec.sampling.truncation import temperature, truncate

#: Vocabulary size below which :meth:`Sampler.confidence` sums the whole row: it is as quick, and the maxima of few
#: blocks hold too little of the mass.
_SMALL_VOCABULARY = 8192
#: Tokens that are tried at one position before a structured answer that no longer fits its budget is ended.
_MAX_TRIES = 16


class Sampler:
    """Sampler of one answer.

    ``breakers`` are DRY's sequence breakers. Methods take ``tokens``, the prompt and the answer so far, one list that
    only grows, and ``ahead``, draft tokens that follow it.
    """

    def __init__(
        self, params: SamplingParams, constraint: Constraint | None = None, breakers: SequenceBreakers | None = None
    ) -> None:
        self.params, self.constraint = params.seeded(), constraint
        self._seed = self.params.seed or 0
        self._greedy, self._truncates = params.greedy, params.truncates
        self._adjustments = adjustments(params, breakers)
        self._history = History()

    def pick(self, row: Row, tokens: Sequence[int], ahead: Sequence[int] = ()) -> int:
        """The token after ``tokens`` and ``ahead``, given the logits ``row`` (n_vocab,) at that position."""
        return self.choose(self.adjust(row, tokens, ahead), len(tokens) + len(ahead))

    def adjust(self, row: Row, tokens: Sequence[int], ahead: Sequence[int] = ()) -> Row:
        """The logits (n_vocab,) to choose from: bias, penalties and the constraint applied to a copy of ``row``.

        Without any of them it is ``row`` itself. The constraint comes last and always holds: bias and penalties are
        left out where they forbid every token that it allows.
        """
        adjusted = row
        if self._adjustments:
            adjusted = row.copy()
            self._history.update(tokens, ahead)
            for adjustment in self._adjustments:
                adjustment.apply(adjusted, self._history)
        if self.constraint is None:
            return adjusted
        allowed = self.constraint.allowed(tokens, ahead)[: len(row)]  # a drafter may lack padding tokens
        for logits in (adjusted, row, np.zeros_like(row)):
            masked = np.where(allowed, logits, np.float32(-np.inf))
            if masked.max() > -np.inf:
                break
        return self._within_budget(self.constraint, masked, tokens, ahead)

    def _within_budget(self, constraint: Constraint, row: Row, tokens: Sequence[int], ahead: Sequence[int]) -> Row:
        """``row`` without choices after which the answer cannot be completed within its budget.

        After ``_MAX_TRIES`` such choices only the next token of the known ending is left.
        """
        for _ in range(_MAX_TRIES):
            token = self.choose(row, len(tokens) + len(ahead))
            if row[token] == -np.inf:
                break
            if constraint.fits(tokens, ahead, token):
                return row
            row[token] = -np.inf
        row[:] = -np.inf
        token = constraint.ending_token(tokens, ahead)
        if token < len(row):
            row[token] = 0.0
        return row

    def choose(self, row: Row, position: int) -> int:
        """The token at ``position`` (0 is the first prompt token), given its adjusted logits (n_vocab,)."""
        if self._greedy:
            return int(row.argmax())
        if not self._truncates and self.params.dynatemp_range == 0.0:
            return gumbel_max_row(row, self.params.temperature, self._seed, position)
        left = truncate(row, self.params, self._xtc_acts(position))
        if len(left.ids) == 1:
            return int(left.ids[0])
        return int(left.ids[gumbel_max(left.logits, temperature(left, self.params), left.ids, self._seed, position)])

    def _xtc_acts(self, position: int) -> bool:
        return self.params.excludes and xtc_draw(self._seed, position) <= self.params.xtc_probability

    @staticmethod
    def confidence(row: Row, token: int) -> float:
        """Estimate of the probability of ``token`` at temperature 1; never below it, close to it in a peaked row.

        The normaliser sums the maxima of blocks of the row, which hold nearly all of its mass. A draft token then costs
        a pass of comparisons in place of exponentials.
        """
        if row[token] == -np.inf:
            return 0.0
        maxima = row if len(row) < _SMALL_VOCABULARY else blocks(row).max(axis=0)
        mass = np.exp(np.minimum(maxima - row[token], 80.0))  # e^80 is finite in float32
        return 1.0 / max(1.0, float(mass.sum()))
