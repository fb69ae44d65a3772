"""Which tokens may be chosen: llama.cpp's default chain, top-n-sigma → top-k → typical-p → top-p → min-p → XTC.

Formulas are those of ``src/llama-sampler.cpp``: ``llama_sampler_top_n_sigma_apply``, ``_top_k_impl``,
``_typical_apply``, ``_top_p_apply``, ``_min_p_apply``, ``_xtc_apply``, ``_temp_ext_apply``. Two things are defined here
that it leaves open: equal logits rank by id, lower first, and a token without probability never survives. The work
is done on few tokens: a first cut that only loses what the chain would lose comes before any sort.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from localspec.params import SamplingParams
from localspec.sampling.noise import Floats, Ids
from localspec.sampling.rows import LOWEST, Row, largest, log_sum_exp, nucleus_candidates, spread


class Survivors(NamedTuple):
    """Ids and logits that are left, most likely first.

    ``size`` is how many llama.cpp would count, which includes tokens without probability that no sampler took away.
    """

    ids: Ids
    logits: Floats
    size: int


def truncate(row: Row, params: SamplingParams, excluding: bool = False) -> Survivors:
    """What the chain leaves of the shaped logits ``row`` (n_vocab,); ``excluding``: XTC's coin says that it acts."""
    ids, total, size = _first_cut(row, params)
    logits = row[ids].astype(np.float64)
    if params.top_k:
        ids, logits = _sorted(ids, logits)
        ids, logits = ids[: params.top_k], logits[: params.top_k]
    if params.typical_p < 1.0:
        usual = typical(logits, params.typical_p)
        ids, logits, total = ids[usual], logits[usual], math.inf
    if not params.top_k:
        ids, logits = _sorted(ids, logits)
    if params.top_p < 1.0:
        keep = _nucleus(logits, params.top_p, total)
        ids, logits = ids[:keep], logits[:keep]
    if params.min_p > 0.0:
        keep = max(1, int(np.count_nonzero(logits >= logits[0] + math.log(params.min_p))))
        ids, logits = ids[:keep], logits[:keep]
    if params.typical_p < 1.0 or params.top_p < 1.0 or params.min_p > 0.0:
        size = len(ids)
    if excluding:
        gone = excluded(logits, params.xtc_threshold)
        ids, logits, size = ids[gone:], logits[gone:], size - gone
    return Survivors(ids, logits, size)


def _first_cut(row: Row, params: SamplingParams) -> tuple[Ids, float, int]:
    """Possible ids among which is all that survives top-n-sigma and the next sampler, in id order.

    With them the logarithm of the mass that top-p is a part of (inf: that of the ids), and llama.cpp's count.
    """
    size, total = len(row), math.inf
    floor = sigma_floor(row, params.top_n_sigma)
    if params.top_k:
        size = min(params.top_k, size)
    if params.top_k and params.top_k < len(row):
        ids = largest(row, params.top_k)
        ids = ids[row[ids] >= floor]
    elif params.typical_p == 1.0 and params.top_p < 1.0:
        ids, total = nucleus_candidates(row, params.top_p, floor)
    else:
        if params.typical_p == 1.0 and params.min_p > 0.0:
            floor = max(floor, float(row.max()) + math.log(params.min_p))
        ids = np.flatnonzero(row >= floor)
    return (ids if len(ids) else np.array([row.argmax()])), total, size


def sigma_floor(row: Row, n: float) -> float:
    """The lowest logit that top-n-sigma leaves (Tang et al., arXiv 2411.07641): max − n·σ over the possible tokens."""
    if n <= 0.0 or len(row) < 2:
        return LOWEST
    peak = float(row.max())
    return LOWEST if peak == -math.inf else max(LOWEST, peak - n * spread(row))


def typical(logits: Floats, p: float) -> Ids:
    """Indices, ascending, of the locally typical tokens (Meister et al., arXiv 2202.00666).

    Those whose surprise is nearest to the entropy, until they hold more than ``p``.
    """
    mass, unlike = surprise(logits)
    near = np.arange(len(logits))
    for distance in (1.0, 2.0, 4.0, 8.0):  # only these need a sort
        within = np.flatnonzero(unlike <= distance)
        if float(mass[within].sum()) > p:
            near = within
            break
    order = near[np.argsort(unlike[near], kind="stable")]
    count = min(len(order), int(np.searchsorted(np.cumsum(mass[order]), p, side="right")) + 1)
    return np.sort(order[:count])


def surprise(logits: Floats) -> tuple[Floats, Floats]:
    """Probabilities, and how far each token's surprise −ln p lies from the entropy."""
    logs = logits - log_sum_exp(logits)
    mass = np.exp(logs)
    unlike: Floats = np.abs(-logs + float((mass * logs).sum()))
    return mass, unlike


def excluded(logits: Floats, threshold: float) -> int:
    """How many of the sorted ``logits`` XTC takes away: all but the last that has at least ``threshold``."""
    weights = np.exp(logits - logits[0])
    return max(0, int(np.count_nonzero(weights >= threshold * float(weights.sum()))) - 1)


def temperature(kept: Survivors, params: SamplingParams, more: float = 0.0) -> float:
    """The temperature; with a range, between its ends by the entropy relative to the largest possible.

    (``llama_sampler_temp_ext_apply``; the idea is kalomaze's.) ``more`` is added to the entropy.
    """
    if params.dynatemp_range <= 0.0:
        return params.temperature
    if kept.size <= 1:
        return 1.0
    low = max(0.0, params.temperature - params.dynatemp_range)
    high = params.temperature + params.dynatemp_range
    logs = kept.logits - log_sum_exp(kept.logits)
    entropy = more - float((np.exp(logs) * logs).sum())
    return low + (high - low) * float(min(1.0, max(0.0, entropy / math.log(kept.size))) ** params.dynatemp_exponent)


def _sorted(ids: Ids, logits: Floats) -> tuple[Ids, Floats]:
    order = np.argsort(-logits, kind="stable")
    return ids[order], logits[order]


def _nucleus(logits: Floats, top_p: float, total: float) -> int:
    """How many of the sorted ``logits`` it takes to hold ``top_p``; ``total`` inf: of their own mass."""
    if math.isinf(total):
        total = log_sum_exp(logits)
    mass = np.cumsum(np.exp(logits - total))
    return min(len(logits), int(np.searchsorted(mass, top_p)) + 1)
