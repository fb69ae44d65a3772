"""The file of an n-gram store: its bytes, and the lock under which it is replaced.

Invariant: what :func:`read_texts` returns is what :func:`write_texts` was given; every other file is refused and never
overwritten. Layout: magic, SHA-256 of all that follows, the size of a JSON header, the header (the vocabulary), the
texts as little-endian int32, each closed by :data:`SEPARATOR`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localspec.errors import InputError
from localspec.files import replacing

#: Stands after every text; token ids are never negative.
SEPARATOR = -1
_MAGIC = b"LSNGRAM1"
_START = struct.Struct("<8s32sI")
#: Bytes beyond the texts that a file of ours can have.
_MOST_HEADER = 1 << 16
_LOCK_S = 10.0


@dataclass(frozen=True)
class StoredTexts:
    """``flat`` (n,) int32, every text closed by :data:`SEPARATOR`; ``digest`` tells states of the file apart."""

    flat: NDArray[Any]
    digest: bytes


def place_of(path: str | os.PathLike[str]) -> Path:
    """The file that ``path`` names, links followed. Raises :class:`InputError` where it could never be written."""
    try:
        place = Path(os.path.realpath(path))
        if not place.parent.is_dir():
            raise InputError(f"there is no folder {_shown(place.parent)}; make it, or name another file.")
    except (OSError, ValueError) as error:
        raise InputError(f"{_shown(path)} is no name for a file ({_reason(error)}); name another.") from None
    return place


def read_texts(path: Path, vocabulary: str, most: int, vocabulary_size: int) -> StoredTexts:
    """What ``path`` holds; nothing where there is no such file.

    Raises :class:`InputError` for a file of another vocabulary, of more than ``most`` int32, or of another kind.
    """
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is no file; name another.")
        with path.open("rb") as stream:
            found = stream.read(_START.size + _MOST_HEADER + 4 * most + 1)
    except FileNotFoundError:
        return StoredTexts(np.empty(0, np.int32), b"")
    except (OSError, ValueError) as error:
        raise InputError(f"{_shown(path)} cannot be read ({_reason(error)}); name another file.") from None
    return _parse(found, path, vocabulary, most, vocabulary_size)


def _parse(found: bytes, path: Path, vocabulary: str, most: int, vocabulary_size: int) -> StoredTexts:
    damaged = InputError(f"{path} is damaged, or no n-gram file; delete it or name another file.")
    if len(found) < _START.size or not found.startswith(_MAGIC):
        raise damaged
    _, digest, length = _START.unpack_from(found)
    rest = memoryview(found)[_START.size :]
    body = rest[length:]
    if len(rest) < length or len(body) % 4 or len(body) > 4 * most or hashlib.sha256(rest).digest() != digest:
        raise damaged
    try:
        about = json.loads(bytes(rest[:length]))
    except (ValueError, RecursionError):
        raise damaged from None
    if not isinstance(about, dict) or about.get("vocabulary") != vocabulary:
        raise InputError(f"{path} holds n-grams of another model's vocabulary; name another file for this model.")
    flat = np.frombuffer(body, "<i4").astype(np.int32)
    if flat.size and (flat.min() < SEPARATOR or flat.max() >= vocabulary_size or flat[-1] != SEPARATOR):
        raise damaged
    return StoredTexts(flat, digest)


def write_texts(path: Path, vocabulary: str, flat: NDArray[Any]) -> bytes:
    """Replace ``path`` with ``flat`` (n,) int32, whole or not at all, readable by its owner only; its new digest.

    Raises :class:`InputError`. Whoever calls has read ``path`` under :func:`locked`.
    """
    header = json.dumps({"vocabulary": vocabulary}).encode()
    body = flat.astype("<i4").tobytes()
    digest = hashlib.sha256(header + body).digest()
    try:
        with replacing(path, private=True) as stream:
            stream.write(_START.pack(_MAGIC, digest, len(header)) + header + body)
    except (OSError, ValueError) as error:
        raise InputError(f"{_shown(path)} cannot be written ({_reason(error)}); name another file.") from None
    return digest


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold what keeps other processes from replacing ``path``. Raises :class:`InputError` after ten seconds."""
    import filelock

    lock = filelock.FileLock(path.with_name(f".{path.name}.lock"), timeout=_LOCK_S)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise InputError(f"another program has kept {path} locked for {_LOCK_S:.0f} s; end it, then go on.") from None
    except (OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"{_shown(path)} cannot be written ({_reason(error)}); name another file.") from None
    try:
        yield
    finally:
        lock.release()


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _shown(path: str | os.PathLike[str]) -> str:
    return str(path).replace("\0", "\\0")
