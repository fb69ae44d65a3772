"""Safetensors files, read a block of rows at a time.

Every length in a header is checked against the file before it is used. Blocks are read, not mapped: mapped pages count
as memory of this process, and a file that is truncated while it is mapped kills the process.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from gguf_convert.checkpoint.json_fields import parse_json_object, shorten
from gguf_convert.tensors import Floats
from localspec.errors import ConvertError

#: Longest header in bytes: the limit of the format itself.
_MAX_HEADER_BYTES = 100_000_000
#: Most dimensions of a tensor. Models have four at most.
_MAX_DIMENSIONS = 8
#: Bytes of one value, by safetensors type.
_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "U16": 2, "I16": 2, "F16": 2,
    "BF16": 2, "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
#: Types that can be converted.
_READABLE = ("F32", "F16", "BF16", "F64")


class ByteSource(Protocol):
    """Bytes that are read by slicing: an array, or part of a file."""

    @property
    def size(self) -> int: ...

    def __getitem__(self, part: slice, /) -> npt.NDArray[np.uint8]: ...


@dataclass(frozen=True)
class FileBytes:
    """``size`` bytes of a file, starting at ``offset``."""

    path: Path
    offset: int
    size: int

    def __getitem__(self, part: slice, /) -> npt.NDArray[np.uint8]:
        start, stop, _ = part.indices(self.size)
        count = max(0, stop - start)
        try:
            found = np.fromfile(self.path, np.uint8, count, offset=self.offset + start)
        except OSError as error:
            raise ConvertError(f"Cannot read {self.path}: {error.strerror or error}.") from error
        if found.size != count:
            raise ConvertError(f"{self.path} was cut off while it was read: download it again.")
        return found


@dataclass(frozen=True)
class CheckpointTensor:
    """A tensor in a safetensors file: a ``TensorSource`` if its type is a float type."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: ByteSource = field(repr=False)

    def rows(self, start: int, stop: int) -> Floats:
        """Read rows as float32, shape ``(stop - start, *shape[1:])``; ConvertError for other types than floats."""
        row_bytes = math.prod(self.shape[1:]) * _BYTES[self.dtype]
        raw = self.data[start * row_bytes : stop * row_bytes]
        if self.dtype == "BF16":
            values = (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
        elif self.dtype in _READABLE:
            values = raw.view({"F32": "<f4", "F16": "<f2", "F64": "<f8"}[self.dtype]).astype(np.float32)
        else:
            raise ConvertError(
                f"Tensor {self.name} has type {self.dtype}; only {', '.join(_READABLE)} can be converted: "
                "use the unquantised checkpoint."
            )
        return values.reshape(-1, *self.shape[1:])


def read_safetensors(path: Path) -> dict[str, CheckpointTensor]:
    """Read the header of one file: 8 bytes of header length, a JSON header, then the data.

    Format: https://huggingface.co/docs/safetensors/index#format. Raises ConvertError unless each tensor lies
    inside the file, has the size of its shape and type, and overlaps no other.
    """
    header, begin, size = _read_safetensors_header(path)
    data = FileBytes(path, begin, size - begin)
    spans: list[tuple[int, int, str]] = []
    tensors: dict[str, CheckpointTensor] = {}
    for name, entry in header.items():
        tensor, begin, end = _read_entry(path, name, entry, data)
        tensors[name] = tensor
        spans.append((begin, end, name))
    _refuse_overlap(path, spans)
    return tensors


def _read_safetensors_header(path: Path) -> tuple[dict[str, Any], int, int]:
    """Return the JSON header, the offset of the data, and the size of the file in bytes."""
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size < 8:
                raise ConvertError(f"{path} is only {size} bytes long: download it again.")
            length = int.from_bytes(stream.read(8), "little")
            if length > min(size - 8, _MAX_HEADER_BYTES):
                raise ConvertError(
                    f"{path} announces a header of {length} bytes but is {size} bytes long: "
                    "it is damaged or no safetensors file; download it again."
                )
            text = stream.read(length).decode("utf-8")
    except OSError as error:
        raise ConvertError(f"Cannot read {path}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise ConvertError(f"{path} has a header that is not UTF-8: download it again.") from error
    header = parse_json_object(text, f"The header of {path}")
    header.pop("__metadata__", None)
    return header, 8 + length, size


def _read_entry(path: Path, name: str, entry: object, data: FileBytes) -> tuple[CheckpointTensor, int, int]:
    def damaged(reason: str) -> ConvertError:
        return ConvertError(f"{path}: tensor {shorten(name)} {reason}; download the file again.")

    if not name.isprintable():  # names appear in messages
        raise damaged("has a name that cannot be printed")
    if not isinstance(entry, dict):
        raise damaged("has no description")
    dtype, shape, offsets = entry.get("dtype"), _sizes(entry.get("shape")), _sizes(entry.get("data_offsets"))
    if not isinstance(dtype, str) or dtype not in _BYTES:
        raise damaged(f"has the unknown type {shorten(dtype)}")
    if shape is None or len(shape) > _MAX_DIMENSIONS:
        raise damaged(f"has the shape {shorten(entry.get('shape'))}")
    if offsets is None or len(offsets) != 2:
        raise damaged(f"has the offsets {shorten(entry.get('data_offsets'))}")
    begin, end = offsets
    if begin > end or end > data.size:
        raise damaged(f"lies at bytes {begin} to {end} of {data.size} (the file is cut off or damaged)")
    expected = math.prod(shape) * _BYTES[dtype]
    if end - begin != expected:
        raise damaged(f"has {end - begin} bytes where {dtype} {shape} needs {expected}")
    return CheckpointTensor(name, dtype, tuple(shape), FileBytes(path, data.offset + begin, end - begin)), begin, end


def _sizes(values: object) -> list[int] | None:
    valid = isinstance(values, list) and all(type(value) is int and 0 <= value < 2**63 for value in values)
    return cast("list[int]", values) if valid else None


def _refuse_overlap(path: Path, spans: list[tuple[int, int, str]]) -> None:
    spans.sort()
    for (_, end, name), (begin, _, following) in pairwise(spans):
        if begin < end:
            raise ConvertError(f"{path}: tensors {name} and {following} overlap; download the file again.")
