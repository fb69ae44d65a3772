"""Sampling noise as a pure function of (seed, position, token id)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]

#: 2^64 divided by the golden ratio: the increment of SplitMix64.
_GOLDEN = 0x9E3779B97F4A7C15
#: Arithmetic is modulo 2^64.
_MASK = 2**64 - 1
#: Token id in the hash of XTC's draw. Real ids are not negative, so the draw is independent of every token's noise.
_XTC = -1


def gumbel(seed: int, position: int, ids: Ids) -> Floats:
    """Standard Gumbel noise for ``ids`` at ``position``: −ln(−ln u), u from a 64-bit hash of seed, position and id.

    The hash applies SplitMix64's finaliser (Steele, Lea, Flood 2014) to the three in turn.
    """
    noise: Floats = -np.log(-np.log(_uniform(seed, position, ids)))
    return noise


def xtc_draw(seed: int, position: int) -> float:
    """Uniform number in (0, 1) that decides whether XTC acts at ``position``.

    llama.cpp draws it from a generator with state; a function of the position does not depend on the drafter.
    """
    return float(_uniform(seed, position, np.array([_XTC]))[0])


def bits(seed: int, position: int, ids: Ids) -> NDArray[Any]:
    """52 random bits for each id, as unsigned integers of 64 bits."""
    key = _mix(_mix(seed & _MASK) ^ ((position * _GOLDEN) & _MASK))
    with np.errstate(over="ignore"):
        x = ids.astype(np.uint64)
        x *= np.uint64(_GOLDEN)
        x += np.uint64(key)
        x ^= x >> np.uint64(30)
        x *= np.uint64(0xBF58476D1CE4E5B9)
        x ^= x >> np.uint64(27)
        x *= np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    x >>= np.uint64(12)
    return x


def bits_threshold(noise: float) -> int:
    """Lower bound of the bits of ids whose Gumbel noise exceeds ``noise``; rounded down, so that no id is missed."""
    return max(0, int(math.exp(-math.exp(min(-noise, 700.0))) * 2.0**52) - 2)


def _uniform(seed: int, position: int, ids: Ids) -> Floats:
    u: Floats = (bits(seed, position, ids).astype(np.float64) + 0.5) * 2.0**-52  # exact; 0 and 1 do not occur
    return u


def _mix(x: int) -> int:
    """One step of SplitMix64 on a Python integer."""
    x = (x + _GOLDEN) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)
