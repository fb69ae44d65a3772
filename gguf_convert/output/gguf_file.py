"""A whole GGUF file: metadata, descriptions of the tensors, data. Format: llama.cpp, ``ggml/docs/gguf.md``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import gguf
import numpy as np

from gguf_convert.output.encode import encode_all
from gguf_convert.output.tensor_types import OutputTensor
from localspec.gguf.types import TENSOR_TYPES
from localspec.types import Progress


def write_gguf(
    path: Path,
    architecture: str,
    metadata: Mapping[str, Any],
    tensors: Sequence[OutputTensor],
    progress: Progress | None = None,
    threads: int | None = None,
) -> None:
    """Write and sync a file. ``progress`` counts bytes of tensor data."""
    write_header(path, architecture, metadata, tensors)
    total = sum(tensor.bytes for tensor in tensors)
    done = 0
    with path.open("ab") as stream:
        _pad(stream)
        for block, last in encode_all(tensors, threads):
            stream.write(block.data)
            done += block.nbytes
            if progress is not None:
                progress(done, total)
            if last:
                _pad(stream)
        stream.flush()
        os.fsync(stream.fileno())


def write_header(
    path: Path, architecture: str, metadata: Mapping[str, Any], tensors: Sequence[OutputTensor] = ()
) -> None:
    """Write what precedes the data."""
    writer = gguf.GGUFWriter(path, architecture)
    try:
        for key, value in metadata.items():
            _add(writer, key, value)
        for output in tensors:
            kind = gguf.GGMLQuantizationType(TENSOR_TYPES[output.type])
            # for uint8 the writer expects the shape in bytes
            writer.add_tensor_info(output.tensor.name, output.byte_shape, np.dtype(np.uint8), output.bytes, kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
    finally:
        writer.close()


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    """Write a key with the GGUF type that llama.cpp reads: unsigned for numbers, signed inside arrays."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _pad(stream: IO[bytes]) -> None:
    stream.write(bytes(-stream.tell() % gguf.GGUF_DEFAULT_ALIGNMENT))
