"""A copy of a GGUF file in which some tensors have another type; everything else is unchanged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gguf_convert.output.encode import encode_rows
from gguf_convert.output.rewrite import pieces, stored, write_copy
from localspec.gguf.header import GgufHeader, TensorInfo, read_header
from localspec.gguf.types import TENSOR_TYPES, TYPE_NAMES
from localspec.llama.quantized_rows import dequantize_rows


def retype(source: Path, destination: Path, kinds: Mapping[str, str]) -> None:
    """Copy ``source``; ``kinds`` maps names of tensors to their new types. Keeps one tensor in memory at a time."""
    header = read_header(source)
    tensors = [
        (replace(tensor, type=TENSOR_TYPES[kinds[tensor.name]]), _recoded(header, tensor, kinds[tensor.name]))
        if tensor.name in kinds
        else (tensor, pieces(stored(header, tensor)))
        for tensor in header.tensors
    ]
    with source.open("rb") as stream:
        metadata = stream.read(header.metadata_end)
    write_copy(destination, header, [metadata], tensors)


def _recoded(header: GgufHeader, tensor: TensorInfo, kind: str) -> Iterator[npt.NDArray[np.uint8]]:
    values = dequantize_rows(stored(header, tensor)[:], TYPE_NAMES[tensor.type], tensor.shape[0])
    yield encode_rows(tensor.name, values.reshape(math.prod(tensor.shape[1:]), -1), kind)
