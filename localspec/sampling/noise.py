"""Randomness as a function: the same (seed, position, token id) gives the same noise, whoever asks and when."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1
#: In place of a token id, which is never negative: XTC's coin is independent of every token's noise.
_XTC = -1


def gumbel(seed: int, position: int, ids: Ids) -> Floats:
    """Standard Gumbel noise for ``ids`` at ``position``: −ln(−ln u), u from a 64-bit mix of all three.

    The mix is SplitMix64's finaliser (Steele, Lea, Flood 2014), applied over seed, position and id in turn.
    """
    noise: Floats = -np.log(-np.log(_uniform(seed, position, ids)))
    return noise


def xtc_coin(seed: int, position: int) -> float:
    """Uniform in (0, 1), for XTC at ``position``: llama.cpp draws it from a generator with a state."""
    return float(_uniform(seed, position, np.array([_XTC]))[0])


def bits(seed: int, position: int, ids: Ids) -> NDArray[Any]:
    """52 random bits for each id."""
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


def bits_of(noise: float) -> int:
    """Bits at or above which the Gumbel noise may exceed ``noise`` (rounded down, so that none is missed)."""
    return max(0, int(math.exp(-math.exp(min(-noise, 700.0))) * 2.0**52) - 2)


def _uniform(seed: int, position: int, ids: Ids) -> Floats:
    u: Floats = (bits(seed, position, ids).astype(np.float64) + 0.5) * 2.0**-52  # exact, and never 0 or 1
    return u


def _mix(x: int) -> int:
    """SplitMix64 on one Python integer."""
    x = (x + _GOLDEN) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)
