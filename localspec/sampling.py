"""Logits row → token. Pure numpy; knows nothing about models or drafters.

Sampling is Gumbel-max with noise from a counter-based hash of (seed, position, token id): the token at a position is a
function of its logits row alone. A drafter that samples with the same noise therefore agrees with the target as
often as their distributions allow, and whatever it proposes cannot change the text (Daliri, Musco, Suresh,
arXiv 2408.07978). Truncation follows llama.cpp's default chain: top-k, top-p, min-p on raw logits, then temperature.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from localspec.config import SamplingParams

Row = NDArray[np.float32]
Ids = NDArray[np.int64]
Floats = NDArray[np.float64]

_BLOCK = 64
_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


class Sampler:
    """Chooses tokens for one generation. ``params`` must carry a seed unless it is greedy."""

    def __init__(self, params: SamplingParams) -> None:
        self.params = params.seeded()
        self._scratch: Row = np.empty(0, np.float32)

    def pick(self, row: Row, position: int) -> int:
        """The token at ``position`` (counted from the first prompt token), given its logits (n_vocab,)."""
        if self.params.greedy:
            return int(row.argmax())
        ids, logits = truncate(row, self.params)
        if len(ids) == 1:
            return int(ids[0])
        noise = gumbel(self.params.seed or 0, position, ids)
        return int(ids[(logits / self.params.temperature + noise).argmax()])

    def confidence(self, row: Row, token: int) -> float:
        """The probability of ``token`` at temperature 1, without truncation; one pass over the row."""
        if len(self._scratch) != len(row):
            self._scratch = np.empty_like(row)
        np.subtract(row, row[token], out=self._scratch)
        # clipped: e^80 is finite in float32, and a token that far behind has no confidence to tell apart
        np.minimum(self._scratch, 80.0, out=self._scratch)
        np.exp(self._scratch, out=self._scratch)
        return 1.0 / float(self._scratch.sum())


def truncate(row: Row, params: SamplingParams) -> tuple[Ids, Floats]:
    """Ids that survive top-k, top-p and min-p, most likely first (ties: lower id first), and their logits."""
    if params.top_k and params.top_k < len(row):
        ids = _largest(row, params.top_k)
    elif params.top_p < 1.0:
        ids = _nucleus_candidates(row, params.top_p)
    else:
        ids = _reachable(row, params)
    logits = row[ids].astype(np.float64)
    order = np.argsort(-logits, kind="stable")
    ids, logits = ids[order], logits[order]
    if params.top_k and params.top_k < len(ids):
        ids, logits = ids[: params.top_k], logits[: params.top_k]
    if params.top_p < 1.0:
        total = math.inf if params.top_k else _log_sum_exp(row)
        keep = _nucleus(logits, params.top_p, total)
        ids, logits = ids[:keep], logits[:keep]
    if params.min_p > 0.0:
        keep = max(1, int(np.count_nonzero(logits >= logits[0] + math.log(params.min_p))))
        ids, logits = ids[:keep], logits[:keep]
    return ids, logits


def _largest(row: Row, k: int) -> Ids:
    """Ids of a small superset of the ``k`` largest, in id order.

    The k-th largest of the block maxima is at most the k-th largest element, so everything from it up suffices;
    no sort of the vocabulary.
    """
    blocks = len(row) // _BLOCK
    if blocks <= k:
        return np.flatnonzero(row >= np.partition(row, len(row) - k)[len(row) - k])
    maxima = row[: blocks * _BLOCK].reshape(blocks, _BLOCK).max(axis=1)
    floor = np.partition(maxima, blocks - k)[blocks - k]
    return np.flatnonzero(row >= floor)


def _nucleus_candidates(row: Row, top_p: float) -> Ids:
    """Ids that hold at least ``top_p`` of the mass: all within some distance of the maximum."""
    peak, total = float(row.max()), _log_sum_exp(row)
    for distance in (6.0, 12.0, 24.0):
        ids = np.flatnonzero(row >= peak - distance)
        if float(np.exp(row[ids].astype(np.float64) - total).sum()) > top_p:
            return ids
    return np.flatnonzero(row > -np.inf)


def _reachable(row: Row, params: SamplingParams) -> Ids:
    """Ids that noise at float precision can lift over the maximum, or that min-p keeps."""
    distance = params.temperature * (math.log(len(row)) + 30.0)
    if params.min_p > 0.0:
        distance = -math.log(params.min_p)
    return np.flatnonzero(row >= row.max() - distance)


def _nucleus(logits: Floats, top_p: float, total: float) -> int:
    """How many of the sorted ``logits`` it takes to hold ``top_p``; ``total`` inf: of their own mass."""
    if math.isinf(total):
        total = _log_sum_exp(logits)
    mass = np.cumsum(np.exp(logits - total))
    return min(len(logits), int(np.searchsorted(mass, top_p)) + 1)


def _log_sum_exp(values: Row | Floats) -> float:
    peak = float(values.max())
    return peak + math.log(float(np.exp(values - values.dtype.type(peak)).sum(dtype=np.float64)))


def gumbel(seed: int, position: int, ids: Ids) -> Floats:
    """Standard Gumbel noise for ``ids`` at ``position``: −ln(−ln u), u from a 64-bit mix of all three.

    The mix is SplitMix64's finaliser (Steele, Lea, Flood 2014), applied over seed, position and id in turn.
    """
    key = _mix(_mix(seed & _MASK) ^ ((position * _GOLDEN) & _MASK))
    with np.errstate(over="ignore"):
        x = ids.astype(np.uint64) * np.uint64(_GOLDEN) + np.uint64(key)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    u = ((x >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    noise: Floats = -np.log(-np.log(u))
    return noise


def _mix(x: int) -> int:
    """SplitMix64 on one Python integer."""
    x = (x + _GOLDEN) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)
