"""Gumbel-max: among some tokens, or among the whole vocabulary without a logarithm for each of it."""

from __future__ import annotations

import numpy as np

from localspec.sampling.noise import Floats, Ids, bits, bits_of, gumbel
from localspec.sampling.rows import LOWEST, Row

_NEAR = 8.0


def scores(logits: Row | Floats, peak: float, temperature: float, ids: Ids, seed: int, position: int) -> Floats:
    """logit/T + noise, relative to a token with logit ``peak`` and no noise."""
    with np.errstate(over="ignore"):  # a tiny temperature sends all but the largest to -inf, as it should
        scaled: Floats = (logits.astype(np.float64) - peak) / temperature
    return scaled + gumbel(seed, position, ids)


def race(logits: Floats, temperature: float, ids: Ids, seed: int, position: int) -> int:
    """Index of the winner among ``ids`` with ``logits``, most likely first; at temperature 0 the first."""
    if temperature == 0.0:
        return 0
    return int(scores(logits, float(logits[0]), temperature, ids, seed, position).argmax())


def race_all(row: Row, temperature: float, seed: int, position: int) -> int:
    """The winner over the whole vocabulary."""
    ids, results = contenders(row, temperature, seed, position)
    return int(ids[results.argmax()])


def contenders(row: Row, temperature: float, seed: int, position: int, lead: float = 0.0) -> tuple[Ids, Floats]:
    """Ids with their scores, among them all that come within ``lead`` of the best.

    A token further than ``_NEAR`` (in units of the temperature) behind the maximum beats the best of the near ones
    only with noise above that best plus ``_NEAR``, which shows in the hash before any logarithm is taken.
    """
    peak = float(row.max())
    edge = max(peak - _NEAR * temperature, LOWEST)
    near = np.flatnonzero(row >= edge)
    if len(near) == 0:  # nothing is possible
        return np.array([row.argmax()]), np.zeros(1)
    found = scores(row[near], peak, temperature, near, seed, position)
    enough = bits_of(float(found.max()) - lead + _NEAR)
    lucky = np.flatnonzero(bits(seed, position, np.arange(len(row))) > enough)
    lucky = lucky[row[lucky] < edge]
    if len(lucky) == 0:
        return near, found
    far = scores(row[lucky], peak, temperature, lucky, seed, position)
    return np.concatenate((near, lucky)), np.concatenate((found, far))
