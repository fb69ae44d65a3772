"""Read the header of a GGUF file: metadata, tensors, and a check that the file is whole.

It does not use llama.cpp, which may abort the process on a damaged file.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3).
"""

from __future__ import annotations

import hashlib
import math
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from localspec.gguf.checks import metadata_error, tensor_error
from localspec.gguf.reader import Reader, Scalar, open_reader
from localspec.gguf.types import ARRAY, BLOCKS, INT32, STRING, UINT32

#: Longest key of the format, and twice ggml's longest tensor name, in bytes.
_MAX_KEY, _MAX_NAME = 65535, 127
_MAX_DIMENSIONS = 8
_MAX_ALIGNMENT = 1 << 20
#: A list of more strings is the vocabulary, or as slow to read.
_LONG = 1024
#: Ends of the names of tensors with two dimensions that no product of matrices reads.
_NO_PRODUCTS = ("_norm.weight", "ssm_conv1d.weight", "shortconv.conv.weight")
#: Keys of a file made by ``localspec trim-draft``: the id in the whole vocabulary of each of its tokens, ascending
#: (int32 array), and the number of tokens of that vocabulary.
TRIM_IDS, TRIM_SIZE = "localspec.trim.ids", "localspec.trim.vocab_size"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor's name, shape (innermost first, as in the file), ggml type number and offset into the data."""

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int | None:
        """Size in bytes; None for a type of unknown size."""
        if self.type not in BLOCKS:
            return None
        per_block, size = BLOCKS[self.type]
        return self.elements // per_block * size


@dataclass(frozen=True, slots=True)
class Span:
    """A metadata value in the file: its GGUF type, the offset of its first byte, and the offset behind its last."""

    kind: int
    start: int
    end: int


@dataclass(frozen=True)
class GgufHeader:
    """A header as :func:`read_header` gives it.

    ``metadata`` holds scalars, and arrays of at most 1024 numbers or 16 strings as tuples. ``lengths`` holds the length
    of every array, ``spans`` the place of every value, in the order of the file. ``metadata_end`` is the offset of the
    first tensor's description, ``data_start`` the offset that the tensors' offsets count from.
    """

    path: Path
    metadata: dict[str, Scalar | tuple[Scalar, ...]]
    lengths: dict[str, int]
    tensors: tuple[TensorInfo, ...] = field(repr=False)
    metadata_end: int = 0
    data_start: int = 0
    spans: dict[str, Span] = field(repr=False, default_factory=dict)

    @property
    def multiplied(self) -> list[TensorInfo]:
        """The matrices that activations are multiplied with.

        An embedding that is only looked up is none of them, nor are norms of groups and kernels of short convolutions.
        """
        untied = any(tensor.name == "output.weight" for tensor in self.tensors)
        looked_up = {"per_layer_token_embd.weight", *(["token_embd.weight"] if untied else [])}
        matrices = (tensor for tensor in self.tensors if len(tensor.shape) > 1 and tensor.name.endswith("weight"))
        return [t for t in matrices if t.name not in looked_up and not t.name.endswith(_NO_PRODUCTS)]

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))

    @property
    def layout(self) -> str:
        """Hash of what determines the kernels of a pass: the architecture with its settings, types and shapes.

        Files with the same layout (a copy, another fine-tune) differ in their values only.
        """
        own = {key: value for key, value in self.metadata.items() if key.startswith(f"{self.architecture}.")}
        tensors = sorted((tensor.name, tensor.type, tensor.shape) for tensor in self.tensors)
        return hashlib.sha256(repr((self.architecture, sorted(own.items()), tensors)).encode()).hexdigest()

    def number(self, key: str, default: int | None = None) -> int | None:
        """The whole number at ``{architecture}.{key}``."""
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        return value if isinstance(value, int) else default

    def strings(self, key: str) -> list[bytes]:
        """The array of strings at ``key`` (such as the vocabulary's tokens), of any length; empty if there is none.

        Reads the file. Raises as :func:`read_header` does.
        """
        with open_reader(self.path) as reader:
            count = self._go_to(reader, key, (STRING,))
            return [reader.string() for _ in range(count)]

    def int32s(self, key: str, kind: int = INT32) -> array[int]:
        """The array at ``key`` of 32-bit numbers of GGUF type ``kind`` (or uint32) as int32, floats as their bits.

        Empty if there is none. Reads the file. Raises as :func:`read_header` does.
        """
        found = array("i")
        with open_reader(self.path) as reader:
            count = self._go_to(reader, key, (kind, UINT32))
            start = reader.at
            reader.skip(4 * count)
            found.frombytes(reader.data[start : reader.at])
        if sys.byteorder == "big":
            found.byteswap()
        return found

    def _go_to(self, reader: Reader, key: str, kinds: tuple[int, ...]) -> int:
        """Move ``reader`` to the first element of an array of one of these types; its length, 0 if there is none."""
        span = self.spans.get(key)
        if span is None or span.kind != ARRAY:
            return 0
        reader.skip(span.start)
        kind, count = reader.array_start()
        return count if kind in kinds else 0


def is_trimmed(header: GgufHeader) -> bool:
    """True for a file made by ``localspec trim-draft``, which has some of its vocabulary's tokens only."""
    return TRIM_IDS in header.lengths


def read_header(
    path: str | Path, *, model: bool = True, start_only: bool = False, size: int | None = None
) -> GgufHeader:
    """Parse and check the header of ``path``.

    ``model=False``: it need not describe a model. ``start_only``: read the metadata before the first list of more than
    1024 strings, which is mostly the vocabulary, and check nothing else; that takes about a hundredth of the time.
    ``size``: bytes of the whole file, where only its beginning is at ``path``.

    Raises :class:`ModelNotFoundError` when there is no such file and :class:`ModelFileError` when it is not GGUF, its
    header is damaged, or it is shorter than the tensors that it lists.
    """
    header = GgufHeader(Path(path), {}, {}, ())
    with open_reader(header.path) as reader:
        n_tensors, n_pairs = reader.counts()
        for key, kind in _keys(reader, n_pairs):
            if start_only and kind == ARRAY and _is_long_list(reader, key, header):
                return header
            _read_value(reader, key, kind, header)
        if start_only:
            return header
        end, tensors = reader.at, tuple(_read_tensor(reader) for _ in range(n_tensors))
        if model and not header.architecture:
            raise reader.error("it does not say its architecture")
        header = replace(header, tensors=tensors, metadata_end=end)
        header = replace(header, data_start=_check_length(header, reader, size or reader.end))
        if model:
            kinds = ((tensor.name, tensor.type) for tensor in tensors)
            reason = metadata_error(header.architecture, header.metadata, header.lengths) or tensor_error(kinds)
            if reason:
                raise reader.error(reason)
    return header


def _keys(reader: Reader, count: int) -> Iterator[tuple[str, int]]:
    """Key and type of each metadata pair. The caller reads the value before the next pair."""
    for _ in range(count):
        yield reader.printable("key", _MAX_KEY), reader.integer("<I")


def _is_long_list(reader: Reader, key: str, header: GgufHeader) -> bool:
    """True, with its length noted in ``header``, for a list of strings that is slow to read; it is not read."""
    start = reader.at
    kind, count = reader.array_start()
    reader.at = start
    if kind != STRING or count <= _LONG:
        return False
    header.lengths[key] = count
    return True


def _read_value(reader: Reader, key: str, kind: int, header: GgufHeader) -> None:
    start = reader.at
    value: Scalar | tuple[Scalar, ...] | None
    if kind == ARRAY:
        header.lengths[key], value = reader.array()
    else:
        value = reader.scalar(kind)
    header.spans[key] = Span(kind, start, reader.at)
    if value is not None:
        header.metadata[key] = value


def _read_tensor(reader: Reader) -> TensorInfo:
    name, n_dims = reader.printable("tensor's name", _MAX_NAME), reader.integer("<I")
    if n_dims > _MAX_DIMENSIONS:
        raise reader.error(f"tensor {name!r} has {n_dims} dimensions")
    shape = tuple(reader.integer("<Q") for _ in range(n_dims))
    return TensorInfo(name, shape, reader.integer("<I"), reader.integer("<Q"))


def _check_length(header: GgufHeader, reader: Reader, size: int) -> int:
    """The offset at which the tensors' data begin. Raises unless all of them end inside the file."""
    alignment = header.metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1 or alignment > _MAX_ALIGNMENT:
        raise reader.error(f"its alignment is {alignment!r}")
    start = (reader.at + alignment - 1) // alignment * alignment
    for tensor in header.tensors:
        per_block = BLOCKS.get(tensor.type, (1, 0))[0]
        if tensor.shape and tensor.shape[0] % per_block:
            raise reader.error(f"tensor {tensor.name!r} has rows of {tensor.shape[0]} in blocks of {per_block}")
        end = start + tensor.offset + (tensor.bytes or 0)
        if end > size:
            raise reader.error(f"tensor {tensor.name!r} ends at byte {end}, but the file has {size}")
    return start
