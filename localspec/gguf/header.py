"""Read the header of a GGUF file: architecture, scalar metadata, and whether the file is whole.

Memory-mapped, bounded by the file's size whatever the header claims, and independent of llama.cpp, which may abort
the process on a damaged file. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3).
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from localspec.errors import ModelFileError, ModelNotFoundError
from localspec.gguf.checks import unfit, unfit_tensor

Scalar = int | float | bool | str

_FORMATS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_MAX_DEPTH = 3
#: The format's longest key, and twice ggml's longest name of a tensor, in bytes.
_MAX_KEY, _MAX_NAME = 65535, 127
#: More than any model has, so that a file of nothing but records is refused before they fill the memory. Numbers of
#: arrays and texts beyond these are not kept.
_MAX_RECORDS, _MAX_NUMBERS, _MAX_TEXT = 1 << 16, 1 << 16, 1 << 20
_LONG = 1024
#: Of a file of ``localspec trim-draft``: the id in the whole vocabulary of each of its tokens, ascending (int32 array),
#: and how many tokens that vocabulary has.
TRIM_IDS, TRIM_SIZE = "localspec.trim.ids", "localspec.trim.vocab_size"

#: (elements per block, bytes per block) by ggml type number; numbers that are not here cannot be sized.
BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18), 42: (64, 18),
}  # fmt: skip

TYPE_NAMES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K",
    12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S",
    20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64",
    29: "IQ1_M", 30: "BF16", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4", 41: "Q1_0", 42: "Q2_0",
}  # fmt: skip


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
        """Size in bytes, or None for a type this module cannot size."""
        if self.type not in BLOCKS:
            return None
        per_block, size = BLOCKS[self.type]
        return self.elements // per_block * size


@dataclass(frozen=True, slots=True)
class Span:
    """A metadata value: its GGUF type number, and the offsets in the file of its first byte and of what follows it."""

    kind: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Start:
    """What a file says before its first list of more than 1024 strings, which is mostly the vocabulary.

    ``header`` has neither tensors nor later keys. ``key`` is the list's, None where there is none; its ``count``
    strings begin at offset ``at``.
    """

    header: GgufHeader
    key: str | None = None
    count: int = 0
    at: int = 0


@dataclass(frozen=True)
class GgufHeader:
    """``metadata`` holds scalars, and arrays of at most 1024 numbers or 16 strings as tuples; ``lengths`` those of all.

    ``metadata_end`` and ``data_start`` are offsets in the file: of the first tensor's description, and of what the
    tensors' offsets count from.
    """

    path: Path
    metadata: dict[str, Scalar | tuple[Scalar, ...]]
    lengths: dict[str, int]
    tensors: tuple[TensorInfo, ...] = field(repr=False)
    metadata_end: int = 0
    data_start: int = 0

    @property
    def multiplied(self) -> list[TensorInfo]:
        """The matrices that activations are multiplied with; an embedding that is only looked up is none."""
        untied = any(tensor.name == "output.weight" for tensor in self.tensors)
        looked_up = {"per_layer_token_embd.weight", *(["token_embd.weight"] if untied else [])}
        matrices = (tensor for tensor in self.tensors if len(tensor.shape) > 1 and tensor.name.endswith("weight"))
        return [tensor for tensor in matrices if tensor.name not in looked_up]

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))

    def number(self, key: str, default: int | None = None) -> int | None:
        """The whole number at ``{architecture}.{key}``."""
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        return value if isinstance(value, int) else default


class _Reader:
    """A cursor over the mapped file that refuses to read past its end."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self.data, self.path, self.at, self.end = data, path, 0, len(data)
        self.numbers = 0

    def fail(self, why: str) -> ModelFileError:
        return ModelFileError(f"{self.path} is damaged or incomplete: {why}. Download or convert it again.")

    def skip(self, n: int) -> None:
        if n > self.end - self.at:
            raise self.fail(f"its header claims {n} bytes at {self.at}, but the file has {self.end}")
        self.at += n

    def number(self, fmt: str) -> int:
        size = struct.calcsize(fmt)
        self.skip(size)
        return int(struct.unpack_from(fmt, self.data, self.at - size)[0])

    def raw_string(self) -> bytes:
        length = self.number("<Q")
        self.skip(length)
        return self.data[self.at - length : self.at]

    def string(self) -> str:
        return self.raw_string().decode("utf-8", errors="replace")

    def label(self, what: str, longest: int) -> str:
        """A key or name."""
        length = self.peek()
        if length > longest:
            raise self.fail(f"a {what} of {length} bytes begins at {self.at}; the longest has {longest}")
        text = self.string()
        if not text.isprintable():  # it appears in messages
            raise self.fail(f"it has the {what} {text[:80]!r}")
        return text

    def value(self, kind: int) -> Scalar | None:
        """A scalar, or None for a text of more than a MiB."""
        if kind == _STRING and self.peek() > _MAX_TEXT:
            self.skip(8 + self.peek())
            return None
        return self.scalar(kind)

    def peek(self) -> int:
        """The length of the string that begins here, or 0 where the file ends."""
        return int(struct.unpack_from("<Q", self.data, self.at)[0]) if self.end - self.at >= 8 else 0

    def scalar(self, kind: int) -> Scalar:
        if kind == _STRING:
            return self.string()
        if kind not in _FORMATS:
            raise self.fail(f"it names a metadata type {kind} that GGUF does not have")
        size = struct.calcsize(_FORMATS[kind])
        self.skip(size)
        value: Scalar = struct.unpack_from(_FORMATS[kind], self.data, self.at - size)[0]
        return value

    def array(self, depth: int = 0) -> tuple[int, tuple[Scalar, ...] | None]:
        """The length, and the elements when they are at most 1024 numbers or 16 strings; others are skipped."""
        kind, count = self.number("<I"), self.number("<Q")
        if kind in _FORMATS:
            size = struct.calcsize(_FORMATS[kind])
            if count <= 1024 and self.numbers + count <= _MAX_NUMBERS and depth == 0:
                self.numbers += count
                return count, tuple(self.scalar(kind) for _ in range(count))
            self.skip(size * count)
        elif kind == _STRING and count <= 16 and depth == 0:
            texts = [text for _ in range(count) if (text := self.value(_STRING)) is not None]
            return count, tuple(texts) if len(texts) == count else None
        elif kind == _STRING:
            self._skip_strings(count)
        elif kind == _ARRAY and depth < _MAX_DEPTH:
            for _ in range(count):
                self.array(depth + 1)
        else:
            raise self.fail(f"it names an array type {kind} that GGUF does not have")
        return count, None

    def _skip_strings(self, count: int) -> None:
        data, at, end, unpack = self.data, self.at, self.end, struct.Struct("<Q").unpack_from
        for _ in range(count):
            if at + 8 > end:
                raise self.fail("a list of strings runs past the end of the file")
            at += 8 + unpack(data, at)[0]
        self.at = at
        self.skip(0)


def is_trimmed(header: GgufHeader) -> bool:
    """Whether ``localspec trim-draft`` made the file: it says some of its vocabulary's tokens only."""
    return TRIM_IDS in header.lengths


def read_header(path: str | Path, *, model: bool = True) -> GgufHeader:
    """Parse and check the header of ``path``; with ``model=False`` it need not describe a model.

    Raises :class:`ModelNotFoundError` when there is no such file and :class:`ModelFileError` when it is not GGUF, its
    header is damaged, or it is shorter than the tensors that it lists.
    """
    with _open(Path(path)) as reader:
        return _parse(reader, model)


def read_strings(path: str | Path, key: str) -> list[bytes]:
    """The strings of the array at ``key`` (a vocabulary's tokens, say); none where there is no such array.

    Raises as :func:`read_header` does.
    """
    with _open(Path(path)) as reader:
        for found, kind in _pairs(reader, _preamble(reader)[1]):
            if kind != _ARRAY:
                reader.value(kind)
            elif found != key:
                reader.array()
            elif reader.number("<I") == _STRING:
                return [reader.raw_string() for _ in range(reader.number("<Q"))]
            else:
                break
    return []


def read_start(path: str | Path) -> Start:
    """The cheap part of a header: some hundred times as quick as all of it, and not checked as a whole.

    Raises as :func:`read_header` does.
    """
    metadata: dict[str, Scalar | tuple[Scalar, ...]] = {}
    lengths: dict[str, int] = {}
    header = GgufHeader(Path(path), metadata, lengths, ())
    with _open(Path(path)) as reader:
        for key, kind in _pairs(reader, _preamble(reader)[1]):
            if kind == _ARRAY:
                before, (element, count) = reader.at, (reader.number("<I"), reader.number("<Q"))
                if element == _STRING and count > _LONG:
                    lengths[key] = count
                    return Start(header, key, count, reader.at)
                reader.at = before
            value = _keep(reader, key, kind, lengths)
            if value is not None:
                metadata[key] = value
    return Start(header)


def read_spans(path: str | Path) -> dict[str, Span]:
    """Where the value of each key lies, in the order of the file. Raises as :func:`read_header` does."""
    found: dict[str, Span] = {}
    with _open(Path(path)) as reader:
        for key, kind in _pairs(reader, _preamble(reader)[1]):
            start = reader.at
            if kind == _ARRAY:
                reader.array()
            else:
                reader.value(kind)
            found[key] = Span(kind, start, reader.at)
    return found


@contextmanager
def _open(path: Path) -> Iterator[_Reader]:
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "not there"
        raise ModelNotFoundError(f"{path} is {kind}; give the path of a .gguf file, or `tiny` for the built-in pair.")
    try:
        with path.open("rb") as stream:
            magic = stream.read(4)
            if magic != b"GGUF":
                raise ModelFileError(
                    f"{path} is not a GGUF file (it starts with {magic!r}); give a .gguf model, or convert a "
                    "Hugging Face checkpoint with `localspec convert`."
                )
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                yield _Reader(data, path)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}. Check its permissions.") from error


def _preamble(reader: _Reader) -> tuple[int, int]:
    """The numbers of tensors and of metadata pairs that follow."""
    reader.skip(4)
    version = reader.number("<I")
    if version not in (2, 3):
        raise ModelFileError(f"{reader.path} is GGUF version {version}; versions 2 and 3 are read. Convert it again.")
    n_tensors, n_pairs = reader.number("<Q"), reader.number("<Q")
    if max(n_tensors, n_pairs) > _MAX_RECORDS:
        raise reader.fail(f"it announces {n_tensors} tensors and {n_pairs} keys; at most {_MAX_RECORDS} are read")
    return n_tensors, n_pairs


def _pairs(reader: _Reader, count: int) -> Iterator[tuple[str, int]]:
    """Key and type of each metadata pair; whoever asks must read the value before the next."""
    for _ in range(count):
        yield reader.label("key", _MAX_KEY), reader.number("<I")


def _parse(reader: _Reader, model: bool) -> GgufHeader:
    n_tensors, n_pairs = _preamble(reader)
    metadata: dict[str, Scalar | tuple[Scalar, ...]] = {}
    lengths: dict[str, int] = {}
    for key, kind in _pairs(reader, n_pairs):
        value = _keep(reader, key, kind, lengths)
        if value is not None:
            metadata[key] = value
    metadata_end = reader.at
    header = GgufHeader(reader.path, metadata, lengths, tuple(_tensor(reader) for _ in range(n_tensors)), metadata_end)
    if model and not header.architecture:
        raise reader.fail("it does not say its architecture")
    header = replace(header, data_start=_check_length(header, reader))
    if model:
        kinds = ((tensor.name, tensor.type) for tensor in header.tensors)
        wrong = unfit(header.architecture, metadata, lengths) or unfit_tensor(kinds)
        if wrong:
            raise reader.fail(wrong)
    return header


def _keep(reader: _Reader, key: str, kind: int, lengths: dict[str, int]) -> Scalar | tuple[Scalar, ...] | None:
    """The value of a pair, None where it is too long to be kept; the length of an array goes into ``lengths``."""
    if kind != _ARRAY:
        return reader.value(kind)
    lengths[key], value = reader.array()
    return value


def _tensor(reader: _Reader) -> TensorInfo:
    name, n_dims = reader.label("tensor's name", _MAX_NAME), reader.number("<I")
    if n_dims > 8:
        raise reader.fail(f"tensor {name!r} has {n_dims} dimensions")
    shape = tuple(reader.number("<Q") for _ in range(n_dims))
    return TensorInfo(name, shape, reader.number("<I"), reader.number("<Q"))


def _check_length(header: GgufHeader, reader: _Reader) -> int:
    """Where the data of the tensors begin, which all end inside the file."""
    alignment = header.metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1 or alignment > 2**20:
        raise reader.fail(f"its alignment is {alignment!r}")
    start = (reader.at + alignment - 1) // alignment * alignment
    for tensor in header.tensors:
        per_block = BLOCKS.get(tensor.type, (1, 0))[0]
        if tensor.shape and tensor.shape[0] % per_block:
            raise reader.fail(f"tensor {tensor.name!r} has rows of {tensor.shape[0]} in blocks of {per_block}")
        end = start + tensor.offset + (tensor.bytes or 0)
        if end > reader.end:
            raise reader.fail(f"tensor {tensor.name!r} ends at byte {end}, but the file has {reader.end}")
    return start
