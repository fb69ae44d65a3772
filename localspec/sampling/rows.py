"""Passes over a whole row of logits, a vocabulary long: none sorts it, and few take exponentials of it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from localspec.sampling.noise import Floats, Ids

Row = NDArray[np.float32]

_BLOCK = 64
#: The lowest finite logit: what is below is impossible.
LOWEST = float(np.finfo(np.float32).min)


def blocks(row: Row) -> Row:
    """All but the last few elements, shape (64, columns): a block is a column, so that its maximum is one SIMD pass."""
    columns = len(row) // _BLOCK
    return row[: _BLOCK * columns].reshape(_BLOCK, columns)


def largest(row: Row, k: int, slack: float = 0.0) -> Ids:
    """Ids of a small superset of the ``k`` largest, and of all within ``slack`` of the k-th, in id order.

    The k-th largest of the block maxima is at most the k-th largest element, so everything from it up suffices, and
    only blocks whose maximum reaches it need a second look: no sort of the vocabulary.
    """
    grid = blocks(row)
    columns = grid.shape[1]
    if columns <= k:
        kth = max(0, len(row) - k)
        return np.flatnonzero(row >= np.partition(row, kth)[kth] - slack)
    maxima = grid.max(axis=0)
    floor = np.partition(maxima, columns - k)[columns - k] - slack
    chosen = np.flatnonzero(maxima >= floor)
    at, column = np.nonzero(grid[:, chosen] >= floor)
    rest = np.flatnonzero(row[_BLOCK * columns :] >= floor) + _BLOCK * columns
    return np.sort(np.concatenate((at * columns + chosen[column], rest)))


def log_sum_exp(values: Row | Floats) -> float:
    peak = float(values.max())
    return peak + math.log(float(np.exp(values - values.dtype.type(peak)).sum(dtype=np.float64)))


def spread(row: Row) -> float:
    """Standard deviation of the possible tokens' logits."""
    total = float(row.sum())
    if not math.isfinite(total):
        row = row[row > -np.inf]
        total = float(row.sum())
    centred = row - row.dtype.type(total / len(row))
    np.square(centred, out=centred)
    return math.sqrt(float(centred.sum()) / len(row))


def nucleus_candidates(row: Row, top_p: float, floor: float, slack: float = 0.0) -> tuple[Ids, float]:
    """Ids that hold at least ``top_p`` of the mass from ``floor`` up, and the logarithm of that mass.

    They are all within some distance of the maximum; ``slack`` adds to it.
    """
    peak = float(row.max())
    total = log_sum_exp(row if floor <= LOWEST else row[row >= floor])
    for distance in (6.0, 12.0, 24.0):
        ids = np.flatnonzero(row >= max(floor, peak - distance))
        if float(np.exp(row[ids].astype(np.float64) - total).sum()) > top_p:
            return (ids if slack == 0 else np.flatnonzero(row >= max(floor, peak - distance - slack))), total
    return np.flatnonzero(row >= floor), total
