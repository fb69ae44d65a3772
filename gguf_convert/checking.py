"""Re-read a written GGUF file and compare it with the checkpoint it came from.

Names, shapes, types and every value: a value may differ from the source by no more than its type rounds
(:mod:`gguf_convert.bounds`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gguf_convert.arch import map_checkpoint
from gguf_convert.bounds import bound, largest_loss
from gguf_convert.checkpoint import open_checkpoint
from gguf_convert.tensors import Floats, ModelTensor, blocks
from localspec.errors import ConvertError, ModelFileError
from localspec.gguf.header import GgufHeader, TensorInfo, read_header
from localspec.gguf.types import FLOATS, TYPE_NAMES
from localspec.llama.quantized_rows import dequantize_rows


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
    try:
        header = read_header(Path(gguf_path))
    except ModelFileError as error:
        raise ConvertError(f"Cannot read {gguf_path} back: {error}") from error
    data = np.memmap(header.path, np.uint8, "r")
    stored = {tensor.name: tensor for tensor in header.tensors}
    expected = {tensor.name: tensor for tensor in model.tensors}
    if stored.keys() != expected.keys():
        names = sorted(stored.keys() ^ expected.keys())
        raise ConvertError(f"{gguf_path} differs from the checkpoint in its tensors: {', '.join(names[:3])}.")
    weighted = any(key.startswith("quantize.imatrix") for key in header.metadata)
    worst: dict[str, float] = {}
    total = sum(tensor.elements for tensor in model.tensors)
    done = 0
    for name, tensor in expected.items():
        kind = TYPE_NAMES.get(stored[name].type, "")
        ratio = _compare(tensor, stored[name], _bytes(header, stored[name], data), weighted)
        worst[kind] = max(worst.get(kind, 0.0), ratio)
        done += tensor.elements
        if progress is not None:
            progress(done, total)
    return Check(len(expected), worst)


def _bytes(header: GgufHeader, tensor: TensorInfo, data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    if tensor.bytes is None:
        raise ConvertError(f"{tensor.name} is of type {tensor.type}, which cannot be checked: convert it again.")
    start = header.data_start + tensor.offset
    return data[start : start + tensor.bytes]


def _compare(tensor: ModelTensor, stored: TensorInfo, packed: npt.NDArray[np.uint8], weighted: bool) -> float:
    """The largest difference as a fraction of what is allowed, of a value or of the tensor as a whole."""
    shape, kind = tuple(reversed(stored.shape)), TYPE_NAMES[stored.type]
    if shape != tensor.shape:
        raise ConvertError(
            f"{tensor.name} has shape {list(shape)} in the file and {list(tensor.shape)} in the checkpoint."
        )
    if len(shape) < 2 and kind not in FLOATS:
        raise ConvertError(f"{tensor.name} is {kind}, and what is no matrix stays in float: convert it again.")
    row_bytes = packed.size // max(1, shape[0])
    worst, row, lost, power = 0.0, 0, 0.0, 0.0
    for values in blocks(tensor.source):
        found = decoded(packed[row * row_bytes : (row + len(values)) * row_bytes], kind, values.shape)
        row += len(values)
        error, allowed = np.abs(found - values), bound(values, kind, weighted)
        if not (error <= allowed).all():  # also when a value is no number
            raise _differs(tensor.name, kind)
        with np.errstate(divide="ignore", invalid="ignore"):
            worst = max(worst, float(np.nan_to_num(error / allowed, posinf=0.0).max(initial=0.0)))
        lost += float(np.square(error, dtype=np.float64).sum())
        power += float(np.square(values, dtype=np.float64).sum())
    limit = largest_loss(kind, tensor.elements, weighted)
    if limit is None or power == 0.0:
        return worst
    loss = math.sqrt(lost / power)
    if loss > limit:
        raise _differs(tensor.name, kind)
    return max(worst, loss / limit)


def _differs(name: str, kind: str) -> ConvertError:
    return ConvertError(f"{name} differs from the checkpoint by more than {kind} rounds.")


def decoded(packed: npt.NDArray[np.uint8], kind: str, shape: tuple[int, ...]) -> Floats:
    """The float32 values of packed rows of this shape."""
    raw = np.ascontiguousarray(packed)
    if kind == "BF16":
        return np.asarray((raw.view("<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape))
    if kind in FLOATS:
        return np.asarray(raw.view("<f4" if kind == "F32" else "<f2").astype(np.float32).reshape(shape))
    return dequantize_rows(raw, kind, shape[-1]).reshape(shape)
