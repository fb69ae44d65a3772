"""A copy of a GGUF file in which some tensors have another type. Metadata and all other tensors stay as they are."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import gguf
import numpy as np
from gguf.quants import dequantize

from gguf_convert.encoding import encode_rows
from localspec.gguf.header import GgufHeader, TensorInfo, read_header
from localspec.gguf.types import BLOCKS, TENSOR_TYPES

_ALIGNMENT = 32


def retype(source: Path, destination: Path, kinds: Mapping[str, str]) -> None:
    """Write ``source`` again with the tensors named in ``kinds`` in those types; one tensor in memory at a time."""
    header = read_header(source)
    alignment = header.metadata.get("general.alignment", _ALIGNMENT)
    step = alignment if isinstance(alignment, int) else _ALIGNMENT
    types = [TENSOR_TYPES[kinds[t.name]] if t.name in kinds else t.type for t in header.tensors]
    with source.open("rb") as old, destination.open("wb") as new:
        new.write(old.read(header.metadata_end))
        offset = 0
        for tensor, kind in zip(header.tensors, types, strict=True):
            new.write(_describe(tensor, kind, offset))
            offset += -(-_size(tensor, kind) // step) * step
        new.write(bytes(-new.tell() % step))
        for tensor, kind in zip(header.tensors, types, strict=True):
            old.seek(header.data_start + tensor.offset)
            if kind == tensor.type:
                _copy(old, new, _size(tensor, kind))
            else:
                new.write(_recoded(old, header, tensor, kind))
            new.write(bytes(-new.tell() % step))
        new.flush()
        os.fsync(new.fileno())


def _size(tensor: TensorInfo, kind: int) -> int:
    per_block, size = BLOCKS[kind]
    return math.prod(tensor.shape) // per_block * size


def _describe(tensor: TensorInfo, kind: int, offset: int) -> bytes:
    name, shape = tensor.name.encode(), tensor.shape
    return struct.pack(f"<Q{len(name)}sI{len(shape)}QIQ", len(name), name, len(shape), *shape, kind, offset)


def _copy(old: IO[bytes], new: IO[bytes], size: int) -> None:
    while size > 0:
        piece = old.read(min(size, 1 << 24))
        if not piece:
            raise OSError(5, "the file ended early")
        new.write(piece)
        size -= len(piece)


def _recoded(old: IO[bytes], header: GgufHeader, tensor: TensorInfo, kind: int) -> bytes:
    raw = np.frombuffer(old.read(_size(tensor, tensor.type)), np.uint8)
    row = raw.reshape(math.prod(tensor.shape[1:]), -1)
    values = dequantize(row, gguf.GGMLQuantizationType(tensor.type))
    return encode_rows(tensor.name, values, gguf.GGMLQuantizationType(kind)).tobytes()
