"""Stability of a choice: True if no perturbation of the logits within a bound changes the chosen token.

Two computations of one row, in a batch and alone, may differ. Let each difference between two logits change by at most
``noise``. :mod:`localspec.sampling.truncation_bounds` follows two sets through truncation: tokens that are left for
every perturbation (certain) and for some perturbation (possible). The choice is stable if one certain token has a score
above that of every other possible token by more than the noise. All bounds are conservative.
"""

from __future__ import annotations

import numpy as np

from localspec.params import SamplingParams
from localspec.sampling.gumbel_max import top_scores
from localspec.sampling.noise import Floats, gumbel
from localspec.sampling.rows import Row
from localspec.sampling.truncation_bounds import ROUNDING, TruncationBounds


def is_stable(row: Row, params: SamplingParams, position: int, noise: float, xtc_acts: bool) -> bool:
    """True if :meth:`Sampler.choose` certainly gives one token for all rows within ``noise`` of the adjusted ``row``.

    ``params`` have their seed; ``xtc_acts`` is the outcome of XTC's draw at ``position``.
    """
    if params.greedy:
        first = int(row.argmax())
        others = [part.max() for part in (row[:first], row[first + 1 :]) if len(part)]
        return not others or bool(row[first] - max(others) > noise)
    if row.max() == -np.inf:
        return True
    noise = noise * (1 + ROUNDING) + ROUNDING
    seed = params.seed or 0
    if not params.truncates and params.dynatemp_range == 0.0:
        margin = noise / params.temperature
        scores = top_scores(row, params.temperature, seed, position, margin)[1]
        return len(scores) == 1 or bool(np.diff(np.partition(scores, len(scores) - 2)[-2:])[0] > margin)
    bounds = TruncationBounds(row, params, noise)
    bounds.apply_chain(xtc_acts)
    if np.count_nonzero(bounds.possible) == 1:
        return True  # truncation always leaves a token
    return _certain_token_wins(bounds, noise, gumbel(seed, position, bounds.ids[bounds.possible]))


def _certain_token_wins(bounds: TruncationBounds, noise: float, gumbel_noise: Floats) -> bool:
    """True if one certain token leads by more than ``noise`` at every possible temperature.

    The lead is linear in the temperature, so the two ends suffice.
    """
    winners = set()
    for temperature in bounds.temperatures():
        scores = bounds.values[bounds.possible] + temperature * gumbel_noise
        best = int(scores.argmax())
        if scores[best] - np.delete(scores, best).max() <= noise:
            return False
        winners.add(best)
    return len(winners) == 1 and bool(bounds.certain[bounds.possible][best])
