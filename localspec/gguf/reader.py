"""A cursor over a memory-mapped GGUF file. It never reads past the end of the file, whatever the file claims."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from localspec.errors import ModelFileError, ModelNotFoundError
from localspec.gguf.types import ARRAY, STRING

Scalar = int | float | bool | str

#: GGUF type of a number → struct format.
_FORMATS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_LENGTH = struct.Struct("<Q")
#: Most levels of arrays in arrays.
_MAX_DEPTH = 3
#: Most metadata keys or tensors: more than any model has. A file of nothing but records is refused before they fill
#: the memory.
_MAX_RECORDS = 1 << 16
#: Most elements of one array of numbers that are kept, and of all such arrays of a file.
_MAX_ARRAY, _MAX_NUMBERS = 1024, 1 << 16
#: Most elements of an array of strings that are kept.
_MAX_STRINGS = 16
#: Longest string that is kept, in bytes.
_MAX_TEXT = 1 << 20


class Reader:
    """Reads at :attr:`at` and moves on. Every method raises :class:`ModelFileError` at the end of the file."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self.data, self.path, self.at, self.end = data, path, 0, len(data)
        self._numbers_kept = 0

    def error(self, reason: str) -> ModelFileError:
        """The error for a damaged file."""
        return ModelFileError(f"{self.path} is damaged or incomplete: {reason}. Download or convert it again.")

    def skip(self, n: int) -> None:
        if n > self.end - self.at:
            raise self.error(f"its header claims {n} bytes at {self.at}, but the file has {self.end}")
        self.at += n

    def integer(self, fmt: str) -> int:
        """One number of a struct format such as ``<I``."""
        size = struct.calcsize(fmt)
        self.skip(size)
        return int(struct.unpack_from(fmt, self.data, self.at - size)[0])

    def string(self) -> bytes:
        length = self.integer("<Q")
        self.skip(length)
        return self.data[self.at - length : self.at]

    def printable(self, what: str, longest: int) -> str:
        """A key or name of at most ``longest`` bytes. It must be printable, because messages show it."""
        length = self._next_length()
        if length > longest:
            raise self.error(f"a {what} of {length} bytes begins at {self.at}; the longest has {longest}")
        text = _text(self.string())
        if not text.isprintable():
            raise self.error(f"it has the {what} {text[:80]!r}")
        return text

    def counts(self) -> tuple[int, int]:
        """The file's start up to the first metadata pair: numbers of tensors and of pairs."""
        self.skip(4)
        version = self.integer("<I")
        if version not in (2, 3):
            raise ModelFileError(f"{self.path} is GGUF version {version}; versions 2 and 3 are read. Convert it again.")
        n_tensors, n_pairs = self.integer("<Q"), self.integer("<Q")
        if max(n_tensors, n_pairs) > _MAX_RECORDS:
            raise self.error(f"it announces {n_tensors} tensors and {n_pairs} keys; at most {_MAX_RECORDS} are read")
        return n_tensors, n_pairs

    def scalar(self, kind: int) -> Scalar | None:
        """A number or a string; None for a string of more than 1 MiB."""
        if kind == STRING:
            if self._next_length() > _MAX_TEXT:
                self.skip(8 + self._next_length())
                return None
            return _text(self.string())
        if kind not in _FORMATS:
            raise self.error(f"it names a metadata type {kind} that GGUF does not have")
        size = struct.calcsize(_FORMATS[kind])
        self.skip(size)
        value: Scalar = struct.unpack_from(_FORMATS[kind], self.data, self.at - size)[0]
        return value

    def array_start(self) -> tuple[int, int]:
        """Type and number of an array's elements, which follow."""
        return self.integer("<I"), self.integer("<Q")

    def array(self, depth: int = 0) -> tuple[int, tuple[Scalar, ...] | None]:
        """The length, and the elements of an array of at most 1024 numbers or 16 strings; others are skipped."""
        kind, count = self.array_start()
        if kind in _FORMATS:
            if count <= _MAX_ARRAY and self._numbers_kept + count <= _MAX_NUMBERS and depth == 0:
                self._numbers_kept += count
                return count, self._scalars(kind, count)
            self.skip(struct.calcsize(_FORMATS[kind]) * count)
        elif kind == STRING and count <= _MAX_STRINGS and depth == 0:
            texts = self._scalars(kind, count)
            return count, texts if len(texts) == count else None
        elif kind == STRING:
            self._skip_strings(count)
        elif kind == ARRAY and depth < _MAX_DEPTH:
            for _ in range(count):
                self.array(depth + 1)
        else:
            raise self.error(f"it names an array type {kind} that GGUF does not have")
        return count, None

    def _scalars(self, kind: int, count: int) -> tuple[Scalar, ...]:
        return tuple(value for _ in range(count) if (value := self.scalar(kind)) is not None)

    def _next_length(self) -> int:
        """Length of the string that begins here; 0 at the end of the file."""
        return int(_LENGTH.unpack_from(self.data, self.at)[0]) if self.end - self.at >= 8 else 0

    def _skip_strings(self, count: int) -> None:
        data, at, end, unpack = self.data, self.at, self.end, _LENGTH.unpack_from
        for _ in range(count):
            if at + 8 > end:
                raise self.error("a list of strings runs past the end of the file")
            at += 8 + unpack(data, at)[0]
        self.at = at
        self.skip(0)


@contextmanager
def open_reader(path: Path) -> Iterator[Reader]:
    """Map ``path``. Raises :class:`ModelNotFoundError`, and :class:`ModelFileError` where it is not GGUF."""
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
                yield Reader(data, path)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}. Check its permissions.") from error


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace")
