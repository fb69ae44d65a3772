"""Folders of the user, files written whole or not at all, and models split over several files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

#: The files of the built-in pair.
BUILT_IN = Path(__file__).parent / "models" / "builtin"
#: Bytes at the beginning of a file that :func:`file_identity` hashes: a GGUF header of usual size.
_HASHED_HEADER = 1 << 20
#: Pieces of the rest that it hashes, and the bytes of each: 2 MiB in all, read in milliseconds.
_PIECES = 16
_PIECE = 1 << 16
_FIRST_PART = re.compile(r"(.*)-00001-of-(\d{5})(\.[^.]+)")
#: Start of a sealed file: magic, SHA-256 of everything after the start, bytes of the JSON header.
_SEAL = struct.Struct("<8s32sI")
#: Most bytes of the JSON header of a sealed file; a conversation of a full context takes about 1 MiB.
_MAX_HEADER = 64 * 2**20


def cache_dir() -> Path:
    """``$LOCALSPEC_CACHE``, or the user's cache folder of this system. It need not exist; nothing in it is missed."""
    return _folder("LOCALSPEC_CACHE", "user_cache_path")


def data_dir() -> Path:
    """``$LOCALSPEC_DATA``, or the user's data folder of this system. It need not exist."""
    return _folder("LOCALSPEC_DATA", "user_data_path")


def config_dir() -> Path:
    """The folder in which this system keeps a user's settings. It need not exist."""
    return _folder("", "user_config_path")


def _folder(variable: str, kind: str) -> Path:
    """Raises RuntimeError where the user has no home folder."""
    chosen = os.environ.get(variable)
    if chosen:
        return Path(chosen)
    import platformdirs  # slow to import

    path: Path = getattr(platformdirs, kind)("localspec")
    return path


@contextmanager
def replacing(path: Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """Open a stream whose bytes replace ``path`` when the block ends; after an exception ``path`` is unchanged.

    ``private``: readable by the user alone. Raises OSError, and ValueError for an impossible path.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".tmp")
    try:
        with open(handle, "wb") as stream:
            yield stream
        if not private:
            os.chmod(temporary, _usual_mode())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _usual_mode() -> int:
    """Permissions of a file made by ``open``. The system returns the mask only when it is set."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


class DamagedFileError(ValueError):
    """A sealed file that is cut short, changed, or of another kind. Callers turn it into an error with its name."""


@dataclass(frozen=True)
class Sealed:
    """Content of a sealed file; ``digest`` changes with every change of it."""

    header: dict[str, Any]
    parts: tuple[bytes, ...]
    digest: bytes


def write_sealed(
    path: Path, magic: bytes, header: Mapping[str, Any], *parts: bytes, private: bool = False
) -> tuple[int, bytes]:
    """Replace ``path`` with a sealed file; returns its size in bytes and its digest.

    Layout: ``magic`` (8 bytes), SHA-256 of everything after the start, size of the header, ``header`` as JSON,
    ``parts``. Raises as :func:`replacing` does.
    """
    content = (json.dumps(header).encode(), *parts)
    digest = _digest(content)
    with replacing(path, private=private) as stream:
        stream.write(_SEAL.pack(magic, digest, len(content[0])))
        for part in content:
            stream.write(part)
    return _SEAL.size + sum(map(len, content)), digest


def read_sealed(path: Path, magic: bytes, sizes: Callable[[dict[str, Any], int], Sequence[int]]) -> Sealed:
    """Read a file written by :func:`write_sealed`. Raises :class:`DamagedFileError` for any other, and OSError.

    ``sizes(header, total)`` returns the bytes of each part, ``total`` bytes together. It may raise KeyError, TypeError
    or ValueError for an impossible header.
    """
    with path.open("rb") as stream:
        start = stream.read(_SEAL.size)
        if len(start) < _SEAL.size or not start.startswith(magic):
            raise DamagedFileError("wrong start")
        _, digest, length = _SEAL.unpack(start)
        total = os.fstat(stream.fileno()).st_size - _SEAL.size - length
        if total < 0 or length > _MAX_HEADER:
            raise DamagedFileError("wrong size")
        text = stream.read(length)
        try:
            header = json.loads(text)
            wanted = sizes(header, total)
        except (KeyError, TypeError, ValueError, RecursionError):
            raise DamagedFileError("wrong header") from None
        if not isinstance(header, dict) or any(type(n) is not int or n < 0 for n in wanted) or sum(wanted) != total:
            raise DamagedFileError("wrong header")
        parts = tuple(stream.read(n) for n in wanted)
    if _digest((text, *parts)) != digest:
        raise DamagedFileError("wrong digest")
    return Sealed(header, parts, digest)


def _digest(parts: Sequence[bytes]) -> bytes:
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.digest()


def reason(error: Exception) -> str:
    """The system's text for an OSError; otherwise the error's own."""
    return getattr(error, "strerror", None) or str(error)


def parts(path: Path) -> list[Path]:
    """List the existing parts of a split model named by its first part (``-00001-of-0000N``); else the file alone."""
    match = _FIRST_PART.fullmatch(path.name)
    if match is None:
        return [path]
    stem, count, suffix = match.groups()
    rest = (path.with_name(f"{stem}-{i:05d}-of-{count}{suffix}") for i in range(2, int(count) + 1))
    return [path, *(part for part in rest if part.is_file())]


def file_identity(path: str | Path) -> str:
    """Identify a file by its size, its time of change, and a hash of its first MiB and of 16 pieces of 64 KiB.

    For the first part of a split GGUF it covers every part. It reads 2 MiB of each file, whatever its size. It detects
    every new, longer, shorter or rewritten file and any change to the first MiB. It does not detect bytes changed
    between the pieces by a program that restores size and time. Raises OSError.
    """
    return " ".join(_part_identity(part) for part in parts(Path(path)))


def _part_identity(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as stream:
        status = os.fstat(stream.fileno())
        found.update(stream.read(_HASHED_HEADER))
        rest = status.st_size - _HASHED_HEADER
        for i in range(_PIECES if rest > 0 else 0):
            stream.seek(_HASHED_HEADER + max(0, rest - _PIECE) * i // (_PIECES - 1))
            found.update(stream.read(_PIECE))
    return f"{status.st_size}:{status.st_mtime_ns}:{found.hexdigest()[:32]}"


def size_text(size: int) -> str:
    """Format bytes in decimal units: ``4.6 GB``, ``98 MB``, ``12 kB``."""
    if size >= 10**9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 10**6 else f"{size / 1e3:.0f} kB"
