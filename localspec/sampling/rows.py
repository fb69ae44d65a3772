"""Passes over a whole row of logits (n_vocab,). None sorts the row; exponentials are taken where needed only."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from localspec.sampling.noise import Floats, Ids

Row = NDArray[np.float32]

#: Logits in a block: the column maxima of 64 rows are one SIMD pass, and a vocabulary gives thousands of columns.
_BLOCK = 64
#: The lowest finite logit. Lower logits (-inf) are impossible tokens.
LOWEST_FINITE = float(np.finfo(np.float32).min)
#: Distances from the maximum that are tried for a nucleus: e^-6 of the peak's mass holds most; 24 holds all but 1e-10.
_NUCLEUS_DISTANCES = (6.0, 12.0, 24.0)


def blocks(row: Row) -> Row:
    """View of the row without its last ``len(row) % 64`` elements, shape (64, columns); a column is a block."""
    columns = len(row) // _BLOCK
    return row[: _BLOCK * columns].reshape(_BLOCK, columns)


def largest(row: Row, k: int) -> Ids:
    """Ids of a small superset of the ``k`` largest logits, in id order.

    The k-th largest block maximum is at most the k-th largest element. All elements from it up are a superset, and only
    blocks whose maximum reaches it are read again.
    """
    grid = blocks(row)
    columns = grid.shape[1]
    if columns <= k:
        kth = max(0, len(row) - k)
        return np.flatnonzero(row >= np.partition(row, kth)[kth])
    maxima = grid.max(axis=0)
    floor = np.partition(maxima, columns - k)[columns - k]
    chosen = np.flatnonzero(maxima >= floor)
    at, column = np.nonzero(grid[:, chosen] >= floor)
    rest = np.flatnonzero(row[_BLOCK * columns :] >= floor) + _BLOCK * columns
    return np.sort(np.concatenate((at * columns + chosen[column], rest)))


def log_sum_exp(values: Row | Floats) -> float:
    """ln Σ e^value, computed relative to the largest value."""
    peak = float(values.max())
    return peak + math.log(float(np.exp(values - values.dtype.type(peak)).sum(dtype=np.float64)))


def standard_deviation(row: Row) -> float:
    """Standard deviation of the finite logits."""
    total = float(row.sum())
    if not math.isfinite(total):
        row = row[row > -np.inf]
        total = float(row.sum())
    centred = row - row.dtype.type(total / len(row))
    np.square(centred, out=centred)
    return math.sqrt(float(centred.sum()) / len(row))


def nucleus_candidates(row: Row, top_p: float, floor: float) -> tuple[Ids, float]:
    """Ids of all logits within some distance of the maximum, and ln of the mass of the logits of at least ``floor``.

    The ids hold more than ``top_p`` of that mass.
    """
    peak = float(row.max())
    total = log_sum_exp(row if floor <= LOWEST_FINITE else row[row >= floor])
    for distance in _NUCLEUS_DISTANCES:
        ids = np.flatnonzero(row >= max(floor, peak - distance))
        if float(np.exp(row[ids].astype(np.float64) - total).sum()) > top_p:
            return ids, total
    return np.flatnonzero(row >= floor), total
