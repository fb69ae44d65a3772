"""Tensors as bytes, a block of rows at a time, on several threads."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from gguf_convert.output.tensor_types import OutputTensor
from gguf_convert.tensors import Floats, spans
from localspec.errors import ConvertError
from localspec.llama.quantized_rows import quantize_rows

Packed = npt.NDArray[np.uint8]

#: Largest F16 number.
_F16_MAX = 65504.0
#: Values that are read ahead: 256 MB of float32. The matrix of an expert is one block, whatever its size.
_AHEAD = 1 << 26
#: Divisor of a value before it is stored as F16: 1, or the number of steps of a block.
_F16_DIVISOR = {"F16": 1.0, "Q8_0": 127.0, "Q4_0": 8.0, "Q6_K": 8.0}


def encode_all(tensors: Iterable[OutputTensor], threads: int | None = None) -> Iterator[tuple[Packed, bool]]:
    """Yield the bytes of all tensors in order, block by block, with True for the last block of a tensor.

    ``threads`` threads (None: one for each core) read and encode ahead of the consumer, by at most ``_AHEAD`` values.
    Raises ConvertError for NaN, infinity, and values too large for the type.
    """
    workers = max(1, threads or os.cpu_count() or 1)
    waiting: deque[tuple[Future[Packed], int, bool]] = deque()
    ahead = 0
    pool = ThreadPoolExecutor(workers, thread_name_prefix="encode")
    try:
        for output in tensors:
            shape = output.tensor.shape
            for start, stop in spans(output.tensor.source):
                size = (stop - start) * math.prod(shape[1:])
                while waiting and (ahead + size > _AHEAD or len(waiting) > 4 * workers):
                    done, done_size, last = waiting.popleft()
                    ahead -= done_size
                    yield done.result(), last
                waiting.append((pool.submit(_encode_span, output, start, stop), size, stop == shape[0]))
                ahead += size
        while waiting:
            done, _, last = waiting.popleft()
            yield done.result(), last
    finally:
        pool.shutdown(cancel_futures=True)


def _encode_span(output: OutputTensor, start: int, stop: int) -> Packed:
    return encode_rows(output.tensor.name, output.tensor.source.rows(start, stop), output.type)


def encode_rows(name: str, values: Floats, kind: str) -> Packed:
    """Return rows of the tensor ``name`` as flat bytes of ggml type ``kind``; raises as :func:`encode_all` does."""
    lowest, highest = float(values.min(initial=0.0)), float(values.max(initial=0.0))  # NaN if any value is NaN
    if not math.isfinite(lowest) or not math.isfinite(highest):
        raise ConvertError(f"Tensor {name} holds NaN or infinity: the checkpoint is damaged; download it again.")
    largest = max(-lowest, highest)
    if kind in _F16_DIVISOR and largest / _F16_DIVISOR[kind] > _F16_MAX:
        raise ConvertError(f"Tensor {name} holds {largest:.3g}, too large for {kind}: use --type BF16.")
    if kind == "F32":
        return np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint8)
    return quantize_rows(values.reshape(-1, values.shape[-1]), kind)
