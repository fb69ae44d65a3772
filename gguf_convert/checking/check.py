"""Read a written GGUF file and compare it with its checkpoint.

Compares names, shapes, types and every value. A value may differ from the checkpoint by no more than the rounding of
its type (:mod:`gguf_convert.checking.rounding`).
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gguf_convert.arch import map_checkpoint
from gguf_convert.checking.rounding import largest_errors, largest_loss
from gguf_convert.checkpoint.folder import open_checkpoint
from gguf_convert.output.rewrite import stored
from gguf_convert.projector import map_projector
from gguf_convert.tensors import ModelTensor, blocks
from localspec.errors import ConvertError, ModelFileError
from localspec.gguf.header import GgufHeader, TensorInfo, read_header
from localspec.gguf.types import FLOATS, TYPE_NAMES
from localspec.llama.quantized_rows import dequantize_rows
from localspec.types import Progress


@dataclass(frozen=True)
class Check:
    """Result of a comparison. ``worst``: by type, the largest error as a fraction of the allowed error (at most 1)."""

    tensors: int
    worst: dict[str, float]


def check(
    checkpoint_dir: str | os.PathLike[str],
    gguf_path: str | os.PathLike[str],
    *,
    projector: bool = False,
    progress: Progress | None = None,
) -> Check:
    """Compare a GGUF file, with ``projector`` the projector, with its checkpoint. ``progress`` counts values.

    Raises ConvertError, which names the first tensor that differs.
    """
    checkpoint = open_checkpoint(Path(checkpoint_dir))
    tensors = map_projector(checkpoint).tensors if projector else map_checkpoint(checkpoint).tensors
    try:
        header = read_header(Path(gguf_path))
    except ModelFileError as error:
        raise ConvertError(f"Cannot read {gguf_path} back: {error}") from error
    found = {tensor.name: tensor for tensor in header.tensors}
    expected = {tensor.name: tensor for tensor in tensors}
    if found.keys() != expected.keys():
        names = sorted(found.keys() ^ expected.keys())
        raise ConvertError(f"{gguf_path} differs from the checkpoint in its tensors: {', '.join(names[:3])}.")
    worst: dict[str, float] = {}
    total = sum(tensor.elements for tensor in tensors)
    done = 0
    for name, tensor in expected.items():
        kind = TYPE_NAMES.get(found[name].type, "")
        worst[kind] = max(worst.get(kind, 0.0), _compare(tensor, header, found[name]))
        done += tensor.elements
        if progress is not None:
            progress(done, total)
    return Check(len(expected), worst)


def _compare(tensor: ModelTensor, header: GgufHeader, info: TensorInfo) -> float:
    """Return the largest error as a fraction of the allowed error, over single values and over the whole tensor."""
    kind = _checkable_type(tensor, info)
    weighted = any(key.startswith("quantize.imatrix") for key in header.metadata)
    packed = stored(header, info)
    row_bytes = packed.size // max(1, tensor.shape[0])
    worst, row, lost, power = 0.0, 0, 0.0, 0.0
    for values in blocks(tensor.source):
        raw = packed[row * row_bytes : (row + len(values)) * row_bytes]
        found = dequantize_rows(raw, kind, values.shape[-1]).reshape(values.shape)
        row += len(values)
        error, allowed = np.abs(found - values), largest_errors(values, kind, weighted)
        if not (error <= allowed).all():  # false for NaN too
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


def _checkable_type(tensor: ModelTensor, info: TensorInfo) -> str:
    """Return the name of the stored type; ConvertError if shape or type cannot be those of the tensor."""
    shape = tuple(reversed(info.shape))
    if shape != tensor.shape:
        raise ConvertError(
            f"{tensor.name} has shape {list(shape)} in the file and {list(tensor.shape)} in the checkpoint."
        )
    if info.bytes is None:
        raise ConvertError(f"{tensor.name} is of type {info.type}, which cannot be checked: convert it again.")
    kind = TYPE_NAMES[info.type]
    if len(shape) < 2 and kind not in FLOATS:
        raise ConvertError(f"{tensor.name} is {kind}, but only matrices can be quantised: convert it again.")
    return kind


def _differs(name: str, kind: str) -> ConvertError:
    return ConvertError(f"{name} differs from the checkpoint by more than {kind} rounds.")
