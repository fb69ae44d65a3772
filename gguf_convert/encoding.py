"""Which GGUF type a tensor gets, and its values in that type, a block of rows at a time.

Matrices get the type that the recipe says, everything else stays F32. A matrix whose rows do not divide into blocks of
the type falls back to a type with smaller blocks, with the reason reported.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType, quant_shape_to_byte_shape

from gguf_convert.recipes import Recipe
from gguf_convert.report import Fallback
from gguf_convert.tensors import Floats, ModelTensor, spans
from localspec.errors import ConvertError
from localspec.llama.quantized_rows import quantize_rows

BLOCK = 32
_F16_MAX = 65504.0
_AHEAD = 1 << 26  # values, 256 MB of float32: an expert's matrix is one block, however large
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


def encode_all(
    tensors: Iterable[tuple[ModelTensor, GGMLQuantizationType]], threads: int | None = None
) -> Iterator[tuple[npt.NDArray[np.uint8], bool]]:
    """The bytes of tensors in order, a block at a time, and whether the block is a tensor's last.

    Blocks are read and encoded by ``threads`` threads (one for each core when None), ahead of the one that is asked
    for by at most ``_AHEAD`` values. Raises ConvertError for NaN, infinity, and values that a type cannot hold.
    """
    workers = max(1, threads or os.cpu_count() or 1)
    waiting: deque[tuple[Future[npt.NDArray[np.uint8]], int, bool]] = deque()
    ahead = 0
    pool = ThreadPoolExecutor(workers, thread_name_prefix="encode")
    try:
        for tensor, kind in tensors:
            for start, stop in spans(tensor.source):
                size = (stop - start) * math.prod(tensor.shape[1:])
                while waiting and (ahead + size > _AHEAD or len(waiting) > 4 * workers):
                    done, done_size, last = waiting.popleft()
                    ahead -= done_size
                    yield done.result(), last
                waiting.append((pool.submit(_encode_span, tensor, kind, start, stop), size, stop == tensor.shape[0]))
                ahead += size
        while waiting:
            done, _, last = waiting.popleft()
            yield done.result(), last
    finally:
        pool.shutdown(cancel_futures=True)


def _encode_span(tensor: ModelTensor, kind: GGMLQuantizationType, start: int, stop: int) -> npt.NDArray[np.uint8]:
    return encode_rows(tensor.name, tensor.source.rows(start, stop), kind)


def encode_rows(name: str, values: Floats, kind: GGMLQuantizationType) -> npt.NDArray[np.uint8]:
    """The bytes of rows of a tensor, flat. ``name`` is for the error; see :func:`encode_all`."""
    lowest, highest = float(values.min(initial=0.0)), float(values.max(initial=0.0))  # NaN if there is any
    if not math.isfinite(lowest) or not math.isfinite(highest):
        raise ConvertError(f"Tensor {name} holds NaN or infinity: the checkpoint is damaged; download it again.")
    largest = max(-lowest, highest)
    if kind in _F16_PART and largest / _F16_PART[kind] > _F16_MAX:
        raise ConvertError(f"Tensor {name} holds {largest:.3g}, too large for {kind.name}: use --type BF16.")
    if kind == GGMLQuantizationType.F32:
        return np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint8)
    return quantize_rows(values.reshape(-1, values.shape[-1]), int(kind))
