"""Logits row → token. Pure numpy; knows nothing about models or drafters.

Sampling is Gumbel-max with noise from a counter-based hash of (seed, position, token id): the token at a position is a
function of its logits row alone. A drafter that samples with the same noise therefore agrees with the target as
often as their distributions allow, and whatever it proposes cannot change the text (Daliri, Musco, Suresh,
arXiv 2408.07978). Truncation follows llama.cpp's default chain: top-k, top-p, min-p on raw logits, then temperature.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localspec.config import SamplingParams
from localspec.constraint import Constraint

Row = NDArray[np.float32]
Ids = NDArray[np.int64]
Floats = NDArray[np.float64]

_BLOCK = 64
_NEAR = 8.0
#: Up to this vocabulary size a whole softmax is as quick, and blocks would hold too little of its mass.
_SMALL = 8192
_LOWEST = float(np.finfo(np.float32).min)
_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


class Sampler:
    """Chooses tokens for one generation. ``params`` must carry a seed unless it is greedy."""

    def __init__(self, params: SamplingParams, constraint: Constraint | None = None) -> None:
        self.params, self.constraint = params.seeded(), constraint

    def pick(self, row: Row, tokens: Sequence[int], ahead: Sequence[int] = ()) -> int:
        """The token that follows ``tokens`` and then ``ahead``, given the target's logits (n_vocab,) there."""
        return self.choose(self.shape(row, tokens, ahead), len(tokens) + len(ahead))

    def shape(self, row: Row, tokens: Sequence[int], ahead: Sequence[int] = ()) -> Row:
        """The logits to choose from: ``row`` itself, or a copy changed by what the tokens before it say."""
        if self.constraint is not None:
            allowed = self.constraint.allowed(tokens, ahead)[: len(row)]  # a drafter may lack padding tokens
            row = np.where(allowed, row, np.float32(-np.inf))
        return row

    def choose(self, row: Row, position: int) -> int:
        """The token at ``position`` (counted from the first prompt token), given its shaped logits (n_vocab,)."""
        if self.params.greedy:
            return int(row.argmax())
        if self.params.truncates:
            ids = truncate(row, self.params)[0]
            return int(ids[0]) if len(ids) == 1 else self._race(row, ids, position)[0]
        return self._race_all(row, position)

    def _race(self, row: Row, ids: Ids, position: int) -> tuple[int, float]:
        """Gumbel-max among ``ids``: the winner and its score, logit/T + noise relative to the row's maximum."""
        with np.errstate(over="ignore"):  # a tiny temperature sends all but the largest to -inf, as it should
            scaled = (row[ids].astype(np.float64) - float(row.max())) / self.params.temperature
        scores = scaled + gumbel(self.params.seed or 0, position, ids)
        best = int(scores.argmax())
        return int(ids[best]), float(scores[best])

    def _race_all(self, row: Row, position: int) -> int:
        """Gumbel-max over the whole vocabulary, with logarithms only for tokens that can win.

        A token further than ``_NEAR`` (in units of the temperature) behind the maximum beats the best of the near ones
        only with noise above that best plus ``_NEAR``, which shows in the hash before any logarithm is taken.
        """
        floor = max(float(row.max()) - _NEAR * self.params.temperature, _LOWEST)
        near = np.flatnonzero(row >= floor)
        winner, score = self._race(row, near, position)
        lucky = np.flatnonzero(_bits(self.params.seed or 0, position, np.arange(len(row))) > _bits_of(score + _NEAR))
        if len(lucky) == 0:
            return winner
        return self._race(row, np.union1d(lucky, [winner]), position)[0]

    def settled(self, row: Row, position: int, noise: float) -> bool:
        """Whether the choice stays the same when differences between the shaped ``row``'s logits move by ``noise``."""
        if self.params.greedy:
            two = np.partition(row, len(row) - 2)[-2:]
            return bool(two[1] - two[0] > noise)
        return False

    @staticmethod
    def confidence(row: Row, token: int) -> float:
        """About the probability of ``token`` at temperature 1: never less, hardly more where the row is peaked.

        The normaliser is summed over the maxima of blocks of the row, which hold nearly all of its mass, so that a
        draft token costs one pass of comparisons instead of one of exponentials.
        """
        if row[token] == -np.inf:
            return 0.0
        maxima = row if len(row) < _SMALL else _blocks(row).max(axis=0)
        mass = np.exp(np.minimum(maxima - row[token], 80.0))  # e^80 is finite in float32
        return 1.0 / max(1.0, float(mass.sum()))


def truncate(row: Row, params: SamplingParams) -> tuple[Ids, Floats]:
    """Ids that survive top-k, top-p and min-p, most likely first (ties: lower id first), and their logits."""
    if params.top_k and params.top_k < len(row):
        ids = largest(row, params.top_k)
    elif params.top_p < 1.0:
        ids = _nucleus_candidates(row, params.top_p)
    elif params.min_p > 0.0:
        ids = np.flatnonzero(row >= max(float(row.max()) + math.log(params.min_p), _LOWEST))
    else:
        ids = np.arange(len(row))
    logits = row[ids].astype(np.float64)
    order = np.argsort(-logits, kind="stable")
    ids, logits = ids[order], logits[order]
    if params.top_k and params.top_k < len(ids):
        ids, logits = ids[: params.top_k], logits[: params.top_k]
    if params.top_p < 1.0:
        total = math.inf if params.top_k else log_sum_exp(row)
        keep = _nucleus(logits, params.top_p, total)
        ids, logits = ids[:keep], logits[:keep]
    if params.min_p > 0.0:
        keep = max(1, int(np.count_nonzero(logits >= logits[0] + math.log(params.min_p))))
        ids, logits = ids[:keep], logits[:keep]
    return ids, logits


def _blocks(row: Row) -> Row:
    """All but the last few elements, shape (64, columns): a block is a column, so that its maximum is one SIMD pass."""
    columns = len(row) // _BLOCK
    return row[: _BLOCK * columns].reshape(_BLOCK, columns)


def largest(row: Row, k: int) -> Ids:
    """Ids of a small superset of the ``k`` largest, in id order.

    The k-th largest of the block maxima is at most the k-th largest element, so everything from it up suffices, and
    only blocks whose maximum reaches it need a second look: no sort of the vocabulary.
    """
    blocks = _blocks(row)
    columns = blocks.shape[1]
    if columns <= k:
        return np.flatnonzero(row >= np.partition(row, len(row) - k)[len(row) - k])
    maxima = blocks.max(axis=0)
    floor = np.partition(maxima, columns - k)[columns - k]
    chosen = np.flatnonzero(maxima >= floor)
    at, column = np.nonzero(blocks[:, chosen] >= floor)
    rest = np.flatnonzero(row[_BLOCK * columns :] >= floor) + _BLOCK * columns
    return np.sort(np.concatenate((at * columns + chosen[column], rest)))


def _nucleus_candidates(row: Row, top_p: float) -> Ids:
    """Ids that hold at least ``top_p`` of the mass: all within some distance of the maximum."""
    peak, total = float(row.max()), log_sum_exp(row)
    for distance in (6.0, 12.0, 24.0):
        ids = np.flatnonzero(row >= peak - distance)
        if float(np.exp(row[ids].astype(np.float64) - total).sum()) > top_p:
            return ids
    return np.flatnonzero(row > -np.inf)


def _nucleus(logits: Floats, top_p: float, total: float) -> int:
    """How many of the sorted ``logits`` it takes to hold ``top_p``; ``total`` inf: of their own mass."""
    if math.isinf(total):
        total = log_sum_exp(logits)
    mass = np.cumsum(np.exp(logits - total))
    return min(len(logits), int(np.searchsorted(mass, top_p)) + 1)


def log_sum_exp(values: Row | Floats) -> float:
    peak = float(values.max())
    return peak + math.log(float(np.exp(values - values.dtype.type(peak)).sum(dtype=np.float64)))


def gumbel(seed: int, position: int, ids: Ids) -> Floats:
    """Standard Gumbel noise for ``ids`` at ``position``: −ln(−ln u), u from a 64-bit mix of all three.

    The mix is SplitMix64's finaliser (Steele, Lea, Flood 2014), applied over seed, position and id in turn.
    """
    u = (_bits(seed, position, ids).astype(np.float64) + 0.5) * 2.0**-52  # exact, and never 0 or 1
    noise: Floats = -np.log(-np.log(u))
    return noise


def _bits(seed: int, position: int, ids: Ids) -> NDArray[Any]:
    """52 random bits for each id."""
    key = _mix(_mix(seed & _MASK) ^ ((position * _GOLDEN) & _MASK))
    with np.errstate(over="ignore"):
        x = ids.astype(np.uint64) * np.uint64(_GOLDEN) + np.uint64(key)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    bits: NDArray[Any] = x >> np.uint64(12)
    return bits


def _bits_of(noise: float) -> int:
    """Bits at or above which the noise may exceed ``noise`` (rounded down, so that none is missed)."""
    return max(0, int(math.exp(-math.exp(-noise)) * 2.0**52) - 2)


def _mix(x: int) -> int:
    """SplitMix64 on one Python integer."""
    x = (x + _GOLDEN) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)
