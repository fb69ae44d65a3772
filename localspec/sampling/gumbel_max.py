"""Gumbel-max sampling: the token with the largest logit/T + noise, among listed tokens or the whole vocabulary."""

from __future__ import annotations

import numpy as np

from localspec.sampling.noise import Floats, Ids, bits, bits_threshold, gumbel
from localspec.sampling.rows import LOWEST_FINITE, Row

#: Tokens within this distance of the maximum, in units of the temperature, are scored without a look at their noise.
#: Any value gives the same token; at 8 the noise of one farther token in e^8 = 3000 needs a logarithm.
_NEAR = 8.0


def gumbel_max(logits: Floats, temperature: float, ids: Ids, seed: int, position: int) -> int:
    """Index into ``ids`` of the chosen token; ``logits`` are sorted, largest first. At temperature 0 the first."""
    if temperature == 0.0:
        return 0
    return int(_scores(logits, float(logits[0]), temperature, ids, seed, position).argmax())


def gumbel_max_row(row: Row, temperature: float, seed: int, position: int) -> int:
    """The token chosen from a whole row (n_vocab,), without a logarithm for each of its tokens.

    A token that is not near the maximum reaches the best near token only with noise above that score plus ``_NEAR``;
    its hash shows this before a logarithm is taken.
    """
    peak = float(row.max())
    edge = max(peak - _NEAR * temperature, LOWEST_FINITE)
    near = np.flatnonzero(row >= edge)
    if len(near) == 0:  # every token is impossible
        return int(row.argmax())
    scores = _scores(row[near], peak, temperature, near, seed, position)
    threshold = bits_threshold(float(scores.max()) + _NEAR)
    far = np.flatnonzero(bits(seed, position, np.arange(len(row))) > threshold)
    far = far[row[far] < edge]
    if len(far) == 0:
        return int(near[scores.argmax()])
    far_scores = _scores(row[far], peak, temperature, far, seed, position)
    return int(np.concatenate((near, far))[np.concatenate((scores, far_scores)).argmax()])


def _scores(logits: Row | Floats, peak: float, temperature: float, ids: Ids, seed: int, position: int) -> Floats:
    """(logit − peak)/T + noise."""
    with np.errstate(over="ignore"):  # at a tiny temperature all but the largest become -inf
        scaled: Floats = (logits.astype(np.float64) - peak) / temperature
    return scaled + gumbel(seed, position, ids)
