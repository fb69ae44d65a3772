"""Largest allowed difference between a stored value and its source, by ggml type.

F32, F16, BF16, Q8_0 and Q4_0 round to the nearest of evenly spaced values, so their bounds follow from the format.
The other types search for the scales that are best for a whole block, which may be bad for one value of it. For these
a value may be off by a share of the largest value of its block, and a tensor as a whole by a share of its size (both as
root mean squares). The shares are 1.5 times the worst errors found over Gaussian, Laplace, Student, uniform and grouped
values, with and without importance matrices. Two unrelated tensors are 1.41 apart.
"""

from __future__ import annotations

import numpy as np

from gguf_convert.tensors import Floats
from localspec.errors import ConvertError

#: Relative rounding of F16: half a unit in the last place.
_F16_STEP = 2.0**-11
#: Half the smallest step of F16 near zero.
_F16_TINY = 2.0**-25
#: Relative rounding of BF16.
_BF16_STEP = 2.0**-8

#: By type: values that share scales, largest error as a share of the block's largest value, and root mean square of the
#: errors of a tensor as a share of that of its values.
_SEARCHED = {
    "Q6_K": (256, 0.4, 0.10), "Q5_K": (256, 1.3, 0.15), "Q5_1": (32, 0.8, 0.12), "Q5_0": (32, 0.6, 0.12),
    "Q4_K": (256, 1.3, 0.20), "Q4_1": (32, 0.8, 0.20), "IQ4_NL": (32, 1.3, 0.20), "IQ4_XS": (256, 1.3, 0.20),
    "MXFP4": (32, 0.5, 0.25), "Q3_K": (256, 1.3, 0.35), "IQ3_S": (256, 3.0, 0.60), "IQ3_XXS": (256, 3.0, 0.65),
    "Q2_K": (256, 1.3, 0.55), "IQ2_S": (256, 3.0, 0.90), "IQ2_XS": (256, 3.5, 0.90), "IQ2_XXS": (256, 4.0, 0.95),
    "IQ1_M": (256, 4.0, 1.00), "IQ1_S": (256, 4.0, 1.00), "TQ2_0": (256, 1.1, 1.00), "TQ1_0": (256, 1.1, 1.00),
    "Q2_0": (64, 1.3, 0.90), "Q1_0": (128, 1.3, 1.00), "Q4_0": (32, 0.8, 0.20),
}  # fmt: skip
#: Fewest elements of a tensor whose root mean square is checked. In smaller ones a single block decides it.
_FEW = 4096


def largest_errors(values: Floats, kind: str, weighted: bool = False) -> Floats:
    """Return the largest error of each element when ``values``, shape ``(..., row)``, are stored as ``kind``.

    Q8_0 rounds to the nearest of 127 steps. Q4_0 rounds to -8…7 eighths of the largest value, so a value at the
    opposite end is off by a whole step. Both store the step as F16. With an importance matrix (``weighted``) Q4_0
    searches its scales.
    """
    if kind == "F32":
        return np.zeros_like(values)
    if kind == "F16":
        return np.asarray(np.abs(values) * _F16_STEP + _F16_TINY, dtype=np.float32)
    if kind == "BF16":
        return np.asarray(np.abs(values) * _BF16_STEP, dtype=np.float32)
    if kind == "Q8_0":
        return _even(values, 127.0, 0.5)
    if kind == "Q4_0" and not weighted:
        return _even(values, 8.0, 1.0)
    if kind not in _SEARCHED:
        raise ConvertError(f"Type {kind} cannot be checked: convert to another type.")
    block, share, _ = _SEARCHED[kind]
    largest = np.abs(values.reshape(-1, block)).max(axis=1, keepdims=True)
    return _spread(largest * share + block * _F16_TINY * 64, block, values.shape)


def _even(values: Floats, steps: float, rounding: float) -> Floats:
    """Return the errors of a type with ``steps`` even steps; ``rounding`` is the largest error in steps."""
    largest = np.abs(values.reshape(-1, 32)).max(axis=1, keepdims=True)
    allowed = largest / steps * (rounding + steps * _F16_STEP * 1.01) + steps * _F16_TINY
    return _spread(allowed, 32, values.shape)


def _spread(allowed: Floats, block: int, shape: tuple[int, ...]) -> Floats:
    return np.broadcast_to(allowed.astype(np.float32), (allowed.shape[0], block)).reshape(shape)


def largest_loss(kind: str, elements: int, weighted: bool = False) -> float | None:
    """Return the largest root mean square of a tensor's errors as a share of that of its values.

    None where the bounds of single values suffice.
    """
    searched = kind in _SEARCHED and (weighted or kind != "Q4_0")
    return _SEARCHED[kind][2] if searched and elements >= _FEW else None
