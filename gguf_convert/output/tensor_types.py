"""Types of the tensors of a file.

Matrices get the type of the recipe, all other tensors F32. A matrix whose rows do not divide into blocks of that type
gets a type with smaller blocks, with the reason in the report.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from gguf_convert.recipes import Recipe
from gguf_convert.report import Fallback
from gguf_convert.tensors import ModelTensor
from localspec.gguf.types import BLOCKS, TENSOR_TYPES

#: Elements in a block of Q8_0, the type that is used where rows do not divide into larger blocks.
_BLOCK = 32
#: Expert routers. A recipe without overrides leaves them in F32, as llama.cpp does: they are small and sensitive.
_ROUTER = "ffn_gate_inp.weight"
#: Kernels of short convolutions, which llama.cpp computes with in F32 alone.
_CONVOLUTION = "ssm_conv1d.weight"


@dataclass(frozen=True)
class OutputTensor:
    """A tensor and the name of its ggml type in the file."""

    tensor: ModelTensor
    type: str

    @property
    def byte_shape(self) -> tuple[int, ...]:
        """Shape of the tensor in bytes."""
        per_block, size = BLOCKS[TENSOR_TYPES[self.type]]
        shape = self.tensor.shape
        return (*shape[:-1], shape[-1] // per_block * size)

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.byte_shape)


def choose_types(tensors: Iterable[ModelTensor], recipe: Recipe) -> tuple[list[OutputTensor], list[Fallback]]:
    """Return every tensor with its type, and the tensors that fell back to another type."""
    chosen, fallbacks = [], []
    for tensor in tensors:
        kind, fallback = choose_type(tensor, recipe)
        chosen.append(OutputTensor(tensor, kind))
        if fallback is not None:
            fallbacks.append(fallback)
    return chosen, fallbacks


def choose_type(tensor: ModelTensor, recipe: Recipe) -> tuple[str, Fallback | None]:
    """Return the type of one tensor in a file of this recipe."""
    if len(tensor.shape) < 2 or tensor.name.endswith(_CONVOLUTION):
        return "F32", None
    wanted = recipe.override(tensor.name)
    if wanted is None:
        if tensor.name.endswith(_ROUTER):
            return "F32", None
        wanted = recipe.type
    row, block = tensor.shape[-1], BLOCKS[TENSOR_TYPES[wanted]][0]
    if row % block == 0:
        return wanted, None
    kind = "F16" if row % _BLOCK else "Q8_0"
    return kind, Fallback(tensor.name, kind, f"rows of {row} values do not divide into blocks of {block}")
