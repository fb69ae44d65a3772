"""A changed copy of a GGUF file: other metadata, or other types, shapes and values of tensors."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from gguf_convert.checkpoint.safetensors import FileBytes
from localspec.gguf.header import GgufHeader, TensorInfo

Pieces = Iterable[npt.NDArray[np.uint8]]

#: Alignment of tensors, in bytes, in a file that does not set it.
_ALIGNMENT = 32
#: Bytes that are copied at once.
_PIECE = 1 << 24


def write_copy(
    path: Path,
    header: GgufHeader,
    metadata: Iterable[bytes],
    tensors: Sequence[tuple[TensorInfo, Pieces]],
    behind: Pieces = (),
) -> None:
    """Write and sync a file with the alignment of ``header``.

    ``metadata`` is everything before the descriptions of the tensors. Each tensor comes with its data; its offset is
    replaced by the one in the new file. ``behind`` follows the last tensor.
    """
    alignment = _alignment(header)
    with path.open("wb") as stream:
        stream.writelines(metadata)
        offset = 0
        for tensor, _ in tensors:
            stream.write(_description(tensor, offset))
            offset += -(-size(tensor) // alignment) * alignment
        _pad(stream, alignment)
        for _, data in tensors:
            for piece in data:
                stream.write(piece.data)
            _pad(stream, alignment)
        for piece in behind:
            stream.write(piece.data)
        stream.flush()
        os.fsync(stream.fileno())


def stored(header: GgufHeader, tensor: TensorInfo) -> FileBytes:
    """Return the data of a tensor of ``header``'s file."""
    return FileBytes(header.path, header.data_start + tensor.offset, size(tensor))


def pieces(data: FileBytes) -> Iterator[npt.NDArray[np.uint8]]:
    """Read ``data`` piece by piece."""
    for start in range(0, data.size, _PIECE):
        yield data[start : start + _PIECE]


def size(tensor: TensorInfo) -> int:
    """Return the size of a tensor in bytes; its type must be known."""
    if tensor.bytes is None:
        raise ValueError(f"tensor {tensor.name} has the unknown type {tensor.type}")
    return tensor.bytes


def _alignment(header: GgufHeader) -> int:
    found = header.metadata.get("general.alignment", _ALIGNMENT)
    return found if isinstance(found, int) else _ALIGNMENT


def _description(tensor: TensorInfo, offset: int) -> bytes:
    name, shape = tensor.name.encode(), tensor.shape
    return struct.pack(f"<Q{len(name)}sI{len(shape)}QIQ", len(name), name, len(shape), *shape, tensor.type, offset)


def _pad(stream: IO[bytes], alignment: int) -> None:
    stream.write(bytes(-stream.tell() % alignment))
