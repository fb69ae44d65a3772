"""Truncation: llama.cpp's default chain, top-n-sigma, top-k, typical-p, top-p, min-p, XTC.

Formulas are those of ``src/llama-sampler.cpp``: ``llama_sampler_top_n_sigma_apply``, ``_top_k_impl``,
``_typical_apply``, ``_top_p_apply``, ``_min_p_apply``, ``_xtc_apply``, ``_temp_ext_apply``. Two cases that it leaves
open are defined here: equal logits rank by id, lower first; a token of probability 0 is removed. A first cut, which
removes only tokens that the chain removes, comes before any sort.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from localspec.params import SamplingParams
from localspec.sampling.noise import Floats, Ids
from localspec.sampling.rows import LOWEST_FINITE, Row, largest, log_sum_exp, nucleus_candidates, standard_deviation


class Candidates(NamedTuple):
    """Ids and logits of the tokens left after truncation, most likely first.

    ``size`` is llama.cpp's count of them, which includes tokens of probability 0 that no sampler removed.
    """

    ids: Ids
    logits: Floats
    size: int


def truncate(row: Row, params: SamplingParams, xtc_acts: bool = False) -> Candidates:
    """Apply the chain to the adjusted logits ``row`` (n_vocab,). ``xtc_acts`` is the outcome of XTC's draw."""
    ids, total, size = _first_cut(row, params)
    logits = row[ids].astype(np.float64)
    if params.top_k:
        ids, logits = _sorted(ids, logits)
        ids, logits = ids[: params.top_k], logits[: params.top_k]
    if params.typical_p < 1.0:
        left = typical(logits, params.typical_p)
        ids, logits, total = ids[left], logits[left], math.inf
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
    if xtc_acts:
        n = xtc_count(logits, params.xtc_threshold)
        ids, logits, size = ids[n:], logits[n:], size - n
    return Candidates(ids, logits, size)


def _first_cut(row: Row, params: SamplingParams) -> tuple[Ids, float, int]:
    """Ids of a superset of the tokens that top-n-sigma and the next sampler leave, in id order.

    Also ln of the mass that top-p is a share of (inf: the mass of the ids), and llama.cpp's count.
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
    """Lowest logit that top-n-sigma leaves (Tang et al., arXiv 2411.07641): max − n·σ over the finite logits."""
    if n <= 0.0 or len(row) < 2:
        return LOWEST_FINITE
    peak = float(row.max())
    return LOWEST_FINITE if peak == -math.inf else max(LOWEST_FINITE, peak - n * standard_deviation(row))


def typical(logits: Floats, p: float) -> Ids:
    """Indices, ascending, of the locally typical tokens (Meister et al., arXiv 2202.00666).

    These are the tokens whose surprisal is nearest to the entropy, until they hold more than ``p``.
    """
    logs = logits - log_sum_exp(logits)
    mass = np.exp(logs)
    distance = np.abs(-logs + float((mass * logs).sum()))
    near = np.arange(len(logits))
    for limit in (1.0, 2.0, 4.0, 8.0):  # sort only the tokens that may be taken
        within = np.flatnonzero(distance <= limit)
        if float(mass[within].sum()) > p:
            near = within
            break
    order = near[np.argsort(distance[near], kind="stable")]
    count = min(len(order), int(np.searchsorted(np.cumsum(mass[order]), p, side="right")) + 1)
    return np.sort(order[:count])


def xtc_count(logits: Floats, threshold: float) -> int:
    """Number of tokens that XTC removes from the sorted ``logits``: all but the last of at least ``threshold``."""
    weights = np.exp(logits - logits[0])
    return max(0, int(np.count_nonzero(weights >= threshold * float(weights.sum()))) - 1)


def temperature(left: Candidates, params: SamplingParams) -> float:
    """Temperature for the tokens ``left``; a dynamic one (kalomaze) grows with their entropy.

    T = low + (high − low) · (entropy / ln size)^exponent, as ``llama_sampler_temp_ext_apply``.
    """
    if params.dynatemp_range <= 0.0:
        return params.temperature
    if left.size <= 1:
        return 1.0
    low = max(0.0, params.temperature - params.dynatemp_range)
    high = params.temperature + params.dynatemp_range
    logs = left.logits - log_sum_exp(left.logits)
    entropy = -float((np.exp(logs) * logs).sum())
    return low + (high - low) * float(min(1.0, max(0.0, entropy / math.log(left.size))) ** params.dynatemp_exponent)


def _sorted(ids: Ids, logits: Floats) -> tuple[Ids, Floats]:
    order = np.argsort(-logits, kind="stable")
    return ids[order], logits[order]


def _nucleus(logits: Floats, top_p: float, total: float) -> int:
    """Number of the sorted ``logits`` that hold ``top_p`` of the mass e^total; inf stands for their own mass."""
    if math.isinf(total):
        total = log_sum_exp(logits)
    mass = np.cumsum(np.exp(logits - total))
    return min(len(logits), int(np.searchsorted(mass, top_p)) + 1)
