"""Importance matrix files: llama.cpp's GGUF format, read and written, and its older ``.dat`` format, read.

For each matrix of a model such a file has the sum of squares of every input value over the tokens of a text, and the
number of these tokens. Nothing is allocated before the file's size is checked. Reference: llama.cpp,
``common/imatrix-loader.cpp``.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from localspec.errors import ModelFileError, ModelNotFoundError
from localspec.gguf.header import GgufHeader, TensorInfo, read_header
from localspec.gguf.types import TYPE_NUMBERS

Floats = npt.NDArray[np.float32]

_SUMS, _COUNTS = ".in_sum2", ".counts"
_F32 = TYPE_NUMBERS["F32"]


@dataclass(frozen=True)
class Entry:
    """``sums``: shape (experts, row), the sums of squares; ``counts``: shape (experts,), the tokens of each."""

    sums: Floats
    counts: Floats


@dataclass(frozen=True)
class Imatrix:
    """Entries by the name of a matrix, from ``chunks`` chunks of ``chunk_size`` tokens of the texts ``datasets``."""

    entries: Mapping[str, Entry]
    datasets: tuple[str, ...]
    chunks: int
    chunk_size: int

    def mean_squares(self) -> dict[str, Floats]:
        """Name of a matrix → importance of every input value, flat; 1 for an expert that no token was sent to."""
        means = {}
        for name, entry in self.entries.items():
            counts = entry.counts[:, None]
            filled = np.divide(entry.sums, counts, out=np.ones_like(entry.sums), where=counts > 0)
            means[name] = np.ascontiguousarray(filled.reshape(-1), np.float32)
        return means


def read_imatrix(path: str | Path) -> Imatrix:
    """Read either format. Raises :class:`ModelNotFoundError` and :class:`ModelFileError`."""
    path = Path(path)
    if not path.is_file():
        raise ModelNotFoundError(
            f"there is no importance matrix {path}; make one with `localspec imatrix MODEL TEXT -o FILE`."
        )
    try:
        with path.open("rb") as stream:
            if stream.read(4) == b"GGUF":
                return _read_gguf(read_header(path, model=False))
        return _read_legacy(path)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}. Check its permissions.") from error


def _damaged(path: Path, reason: str) -> ModelFileError:
    return ModelFileError(f"{path} is no whole importance matrix: {reason}. Make it again with `localspec imatrix`.")


def _read_gguf(header: GgufHeader) -> Imatrix:
    tensors = {tensor.name: tensor for tensor in header.tensors}
    names = [name.removesuffix(_SUMS) for name in tensors if name.endswith(_SUMS)]
    if not names or header.metadata.get("imatrix.chunk_count") is None:
        raise _damaged(header.path, "it holds a model or nothing of an importance matrix")
    entries = {}
    for name in names:
        if name + _COUNTS not in tensors:
            raise _damaged(header.path, f"{name} has sums and no counts")
        sums, counts = (_values(header, tensors[name + suffix]) for suffix in (_SUMS, _COUNTS))
        if counts.size == 0 or sums.size == 0 or sums.size % counts.size:
            raise _damaged(header.path, f"{name} has {sums.size} sums for {counts.size} counts")
        entries[name] = Entry(sums.reshape(counts.size, -1), counts)
    datasets = header.metadata.get("imatrix.datasets", ())
    return Imatrix(
        entries,
        tuple(str(name) for name in datasets) if isinstance(datasets, tuple) else (),
        _integer(header, "imatrix.chunk_count"),
        _integer(header, "imatrix.chunk_size"),
    )


def _integer(header: GgufHeader, key: str) -> int:
    value = header.metadata.get(key, 0)
    return value if isinstance(value, int) else 0


def _values(header: GgufHeader, tensor: TensorInfo) -> Floats:
    if tensor.type != _F32 or tensor.bytes is None:
        raise _damaged(header.path, f"{tensor.name} is not F32")
    with header.path.open("rb") as stream:
        stream.seek(header.data_start + tensor.offset)
        values = np.frombuffer(stream.read(tensor.bytes), "<f4")
    if values.nbytes != tensor.bytes or not np.isfinite(values).all() or (values < 0).any():
        raise _damaged(header.path, f"{tensor.name} holds values that no sum of squares can have")
    return values.astype(np.float32)


def _read_legacy(path: Path) -> Imatrix:
    """The older format: number of calls and scaled sums of dense matrices, then the chunks and the text's name."""
    data = path.read_bytes()
    at = 0

    def take(size: int) -> bytes:
        nonlocal at
        if not 0 <= size <= len(data) - at:
            raise _damaged(path, f"it claims {size} bytes at {at} of {len(data)}")
        at += size
        return data[at - size : at]

    def number() -> int:
        return int(struct.unpack("<i", take(4))[0])

    entries = {}
    for _ in range(number()):
        name = take(number()).decode("utf-8", errors="replace")
        calls, size = number(), number()
        values = np.frombuffer(take(4 * size), "<f4").astype(np.float32)
        if not values.size or not np.isfinite(values).all():
            raise _damaged(path, f"{name} holds no numbers, or infinite ones")
        # llama.cpp reads them so: the quantiser weighs with these sums, up to a factor
        entries[name] = Entry(values.reshape(1, -1) / np.float32(max(calls, 1)), np.ones(1, np.float32))
    if not entries:
        raise _damaged(path, "it has no entries")
    chunks = number() if at < len(data) else 0
    datasets = (take(number()).decode("utf-8", errors="replace"),) if at < len(data) else ()
    return Imatrix(entries, datasets, chunks, 0)


def write_imatrix(path: Path, imatrix: Imatrix) -> None:
    """Write the GGUF format, as llama-imatrix does. The file appears whole or not at all."""
    import gguf

    partial = path.with_name(path.name + ".partial")
    try:
        writer = gguf.GGUFWriter(partial, "")
        writer.kv_data[0].clear()  # an importance matrix has no architecture
        writer.add_string("general.type", "imatrix")
        writer.add_array("imatrix.datasets", list(imatrix.datasets))
        writer.add_uint32("imatrix.chunk_count", imatrix.chunks)
        writer.add_uint32("imatrix.chunk_size", imatrix.chunk_size)
        for name in sorted(imatrix.entries):
            entry = imatrix.entries[name]
            writer.add_tensor(name + _SUMS, np.ascontiguousarray(entry.sums, np.float32))
            writer.add_tensor(name + _COUNTS, np.ascontiguousarray(entry.counts[:, None], np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        os.replace(partial, path)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be written: {error.strerror or error}. Check the folder.") from error
    finally:
        partial.unlink(missing_ok=True)
