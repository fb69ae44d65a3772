"""Which GGUF type a tensor gets, and its values in that type, a block of rows at a time.

Matrices get the type that the recipe says, everything else stays F32. A matrix whose rows do not divide into blocks of
the type falls back to a type with smaller blocks, with the reason reported.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType, quant_shape_to_byte_shape
from gguf.quants import quantize as gguf_quantize

from gguf_convert.recipes import FLOATS, Recipe
from gguf_convert.report import Fallback
from gguf_convert.tensors import Floats, ModelTensor, blocks
from localspec.backends.llama_quantize import quantize_rows
from localspec.errors import ConvertError

BLOCK = 32
#: Expert routers are small and decide much: a plain type leaves them alone, as llama.cpp does.
_ROUTER = "ffn_gate_inp.weight"

# What of a value ends up as an F16 number: all of it, or the step of its block.
_F16_PART = {
    GGMLQuantizationType.F16: 1.0,
    GGMLQuantizationType.Q8_0: 127.0,
    GGMLQuantizationType.Q4_0: 8.0,
    GGMLQuantizationType.Q6_K: 8.0,
}


def file_type(name: str) -> int:
    """The number for ``general.file_type``."""
    return int(LlamaFileType["ALL_F32" if name == "F32" else f"MOSTLY_{name}"])


def choose_type(tensor: ModelTensor, recipe: Recipe) -> tuple[GGMLQuantizationType, Fallback | None]:
    """The type of one tensor in a file of this recipe."""
    if len(tensor.shape) < 2:
        return GGMLQuantizationType.F32, None
    wanted = recipe.override(tensor.name)
    if wanted is None:
        if tensor.name.endswith(_ROUTER):
            return GGMLQuantizationType.F32, None
        wanted = recipe.type
    row, block = tensor.shape[-1], GGML_QUANT_SIZES[GGMLQuantizationType[wanted]][0]
    if row % block == 0:
        return GGMLQuantizationType[wanted], None
    kind = "F16" if row % BLOCK else "Q8_0"
    return GGMLQuantizationType[kind], Fallback(
        tensor.name, kind, f"rows of {row} values do not divide into blocks of {block}"
    )


def byte_shape(tensor: ModelTensor, kind: GGMLQuantizationType) -> tuple[int, ...]:
    """Shape of the tensor in bytes once stored as ``kind``."""
    return tuple(quant_shape_to_byte_shape(tensor.shape, kind))


def encoded(tensor: ModelTensor, kind: GGMLQuantizationType) -> Iterator[npt.NDArray[np.uint8]]:
    """The bytes of a tensor in order, block by block.

    Raises ConvertError for NaN, infinity, and values that the type cannot hold.
    """
    for values in blocks(tensor.source):
        yield encode_rows(tensor.name, values, kind)


def encode_rows(name: str, values: Floats, kind: GGMLQuantizationType) -> npt.NDArray[np.uint8]:
    """The bytes of rows of a tensor, flat. ``name`` is for the error; see :func:`encoded`."""
    if not np.isfinite(values).all():
        raise ConvertError(f"Tensor {name} holds NaN or infinity: the checkpoint is damaged; download it again.")
    limit = float(np.finfo(np.float16).max)
    largest = float(np.abs(values).max(initial=0.0))
    if kind in _F16_PART and largest / _F16_PART[kind] > limit:
        raise ConvertError(f"Tensor {name} holds {largest:.3g}, too large for {kind.name}: use --type BF16.")
    if kind.name in FLOATS:
        return np.ascontiguousarray(gguf_quantize(values, kind)).reshape(-1).view(np.uint8)
    return quantize_rows(values.reshape(-1, values.shape[-1]), int(kind))
