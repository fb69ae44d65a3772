"""Re-read a written GGUF file and compare it with the checkpoint it came from.

Names, shapes, types and every value: a value may differ from the source by no more than its type rounds.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.quants import dequantize

from gguf_convert.arch import map_checkpoint
from gguf_convert.checkpoint import open_checkpoint
from gguf_convert.encoding import BLOCK
from gguf_convert.tensors import Floats, ModelTensor, blocks
from localspec.errors import ConvertError

_F16_STEP = 2.0**-11  # relative rounding of F16, half a unit in the last place
_F16_TINY = 2.0**-25  # half the smallest F16 step near zero
_BF16_STEP = 2.0**-8


@dataclass(frozen=True)
class Check:
    """``worst``: by type, the largest difference as a fraction of what the type allows (at most 1)."""

    tensors: int
    worst: dict[str, float]


def check(
    checkpoint_dir: str | os.PathLike[str],
    gguf_path: str | os.PathLike[str],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Check:
    """Compare a GGUF file with its checkpoint; ConvertError names the first tensor that differs."""
    model = map_checkpoint(open_checkpoint(Path(checkpoint_dir)))
    stored = {tensor.name: tensor for tensor in _read(Path(gguf_path))}
    expected = {tensor.name: tensor for tensor in model.tensors}
    if stored.keys() != expected.keys():
        names = sorted(stored.keys() ^ expected.keys())
        raise ConvertError(f"{gguf_path} differs from the checkpoint in its tensors: {', '.join(names[:3])}.")
    worst: dict[str, float] = {}
    total = sum(tensor.elements for tensor in model.tensors)
    done = 0
    for name, tensor in expected.items():
        kind = stored[name].tensor_type
        ratio = _compare(tensor, stored[name])
        worst[kind.name] = max(worst.get(kind.name, 0.0), ratio)
        done += tensor.elements
        if progress is not None:
            progress(done, total)
    return Check(len(expected), worst)


def _read(path: Path) -> list[Any]:
    try:
        return list(gguf.GGUFReader(path).tensors)
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise ConvertError(f"Cannot read {path} back ({error}): convert it again.") from error


def _compare(tensor: ModelTensor, stored: Any) -> float:
    shape = tuple(int(size) for size in reversed(stored.shape))
    if shape != tensor.shape:
        raise ConvertError(
            f"{tensor.name} has shape {list(shape)} in the file and {list(tensor.shape)} in the checkpoint."
        )
    worst, row = 0.0, 0
    for values in blocks(tensor.source):
        raw = stored.data[row : row + len(values)]
        row += len(values)
        found = dequantize(np.ascontiguousarray(raw), stored.tensor_type).reshape(values.shape)
        error, allowed = np.abs(found - values), bound(values, stored.tensor_type)
        if not (error <= allowed).all():
            raise ConvertError(
                f"{tensor.name} differs from the checkpoint by more than {stored.tensor_type.name} rounds."
            )
        with np.errstate(divide="ignore", invalid="ignore"):
            worst = max(worst, float(np.nan_to_num(error / allowed, posinf=0.0).max(initial=0.0)))
    return worst


def bound(values: Floats, kind: gguf.GGMLQuantizationType) -> Floats:
    """The largest error that storing ``values`` of shape ``(..., row)`` as ``kind`` may cause, by element.

    Q8_0 rounds to the nearest of 127 steps, Q4_0 to the nearest of -8…7 eighths of the largest value, whose
    mirror image is a whole step away; both store the step as F16.
    """
    kinds = gguf.GGMLQuantizationType
    if kind == kinds.F32:
        return np.zeros_like(values)
    if kind == kinds.F16:
        return np.asarray(np.abs(values) * _F16_STEP + _F16_TINY, dtype=np.float32)
    if kind == kinds.BF16:
        return np.asarray(np.abs(values) * _BF16_STEP, dtype=np.float32)
    if kind not in (kinds.Q8_0, kinds.Q4_0):
        raise ConvertError(f"Type {kind.name} is not one this converter writes.")
    largest = np.abs(values.reshape(-1, BLOCK)).max(axis=1, keepdims=True)
    steps, rounding = (127.0, 0.5) if kind == kinds.Q8_0 else (8.0, 1.0)
    allowed = largest / steps * (rounding + steps * _F16_STEP * 1.01) + steps * _F16_TINY
    return np.broadcast_to(allowed.astype(np.float32), (largest.shape[0], BLOCK)).reshape(values.shape)
