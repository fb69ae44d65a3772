"""Which GGUF type a tensor gets, and its values in that type, a block of rows at a time.

Matrices get the requested type, everything else stays F32. A matrix whose rows do not divide into blocks of
32 falls back to F16, with the reason reported.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, LlamaFileType, quant_shape_to_byte_shape
from gguf.quants import quantize as gguf_quantize

from gguf_convert import TYPES
from gguf_convert.fields import shorten
from gguf_convert.tensors import Floats, ModelTensor, blocks
from localspec.errors import ConvertError, UsageError

BLOCK = 32

# What of a value ends up as an F16 number: all of it, or the step of its block.
_F16_PART = {GGMLQuantizationType.F16: 1.0, GGMLQuantizationType.Q8_0: 127.0, GGMLQuantizationType.Q4_0: 8.0}


@dataclass(frozen=True)
class Fallback:
    """A tensor that did not get the requested type, and why."""

    tensor: str
    type: str
    reason: str


def type_name(requested: str) -> str:
    """``requested`` in upper case; UsageError unless it is one of ``TYPES``."""
    name = requested.upper()
    if name not in TYPES:
        raise UsageError(f"Type {shorten(requested)} is not known; choose one of {', '.join(TYPES)}.")
    return name


def file_type(name: str) -> int:
    """The number for ``general.file_type``."""
    return int(LlamaFileType["ALL_F32" if name == "F32" else f"MOSTLY_{name}"])


def choose_type(tensor: ModelTensor, requested: str) -> tuple[GGMLQuantizationType, Fallback | None]:
    """The type of one tensor in a file of type ``requested``."""
    if len(tensor.shape) < 2:
        return GGMLQuantizationType.F32, None
    row = tensor.shape[-1]
    if requested in ("Q8_0", "Q4_0") and row % BLOCK:
        reason = f"rows of {row} values do not divide into blocks of {BLOCK}"
        return GGMLQuantizationType.F16, Fallback(tensor.name, "F16", reason)
    return GGMLQuantizationType[requested], None


def byte_shape(tensor: ModelTensor, kind: GGMLQuantizationType) -> tuple[int, ...]:
    """Shape of the tensor in bytes once stored as ``kind``."""
    return tuple(quant_shape_to_byte_shape(tensor.shape, kind))


def encoded(tensor: ModelTensor, kind: GGMLQuantizationType) -> Iterator[npt.NDArray[np.uint8]]:
    """The bytes of a tensor in order, block by block.

    Raises ConvertError for NaN, infinity, and values that the type cannot hold.
    """
    for values in blocks(tensor.source):
        yield _encode(tensor.name, values, kind)


def _encode(name: str, values: Floats, kind: GGMLQuantizationType) -> npt.NDArray[np.uint8]:
    if not np.isfinite(values).all():
        raise ConvertError(f"Tensor {name} holds NaN or infinity: the checkpoint is damaged; download it again.")
    limit = float(np.finfo(np.float16).max)
    largest = float(np.abs(values).max(initial=0.0))
    if kind in _F16_PART and largest / _F16_PART[kind] > limit:
        raise ConvertError(f"Tensor {name} holds {largest:.3g}, too large for {kind.name}: use --type BF16.")
    packed = np.ascontiguousarray(gguf_quantize(values, kind))
    return packed.reshape(-1).view(np.uint8)
