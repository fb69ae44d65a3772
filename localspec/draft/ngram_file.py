"""The file of an n-gram store: its bytes, and the lock under which it is replaced.

Invariant: :func:`read_texts` returns the texts that :func:`write_texts` wrote. Every other file is refused and never
overwritten. Layout: a sealed file whose header names the vocabulary, and whose one part holds the texts as
little-endian int32, each closed by :data:`SEPARATOR`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localspec.errors import InputError
from localspec.files import DamagedFileError, read_sealed, reason, write_sealed

#: Closes every text; token ids are never negative.
SEPARATOR = -1
_MAGIC = b"LSNGRAM1"
_LOCK_S = 10.0


@dataclass(frozen=True)
class StoredTexts:
    """Texts as ``flat`` (n,) int32, each closed by :data:`SEPARATOR`; ``digest`` identifies the state of the file."""

    flat: NDArray[Any]
    digest: bytes


def place_of(path: str | os.PathLike[str]) -> Path:
    """Resolve the links of ``path``. Raises :class:`InputError` if no file could be written there."""
    try:
        place = Path(os.path.realpath(path))
        if not place.parent.is_dir():
            raise InputError(f"there is no folder {_shown(place.parent)}; make it, or name another file.")
    except (OSError, ValueError) as error:
        raise InputError(f"{_shown(path)} is no name for a file ({reason(error)}); name another.") from None
    return place


def read_texts(path: Path, vocabulary: str, most: int, vocabulary_size: int) -> StoredTexts:
    """Read the texts of ``path``; none if there is no such file.

    Raises :class:`InputError` for a file of another vocabulary, of more than ``most`` int32, or of another kind.
    """
    damaged = InputError(f"{path} is damaged, or no n-gram file; delete it or name another file.")
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is no file; name another.")
        found = read_sealed(path, _MAGIC, lambda _, total: (min(total, 4 * most),))
    except FileNotFoundError:
        return StoredTexts(np.empty(0, np.int32), b"")
    except DamagedFileError:
        raise damaged from None
    except (OSError, ValueError) as error:
        raise InputError(f"{_shown(path)} cannot be read ({reason(error)}); name another file.") from None
    (body,) = found.parts
    if found.header.get("vocabulary") != vocabulary:
        raise InputError(f"{path} holds n-grams of another model's vocabulary; name another file for this model.")
    if len(body) % 4:
        raise damaged
    flat = np.frombuffer(body, "<i4").astype(np.int32)
    if flat.size and (flat.min() < SEPARATOR or flat.max() >= vocabulary_size or flat[-1] != SEPARATOR):
        raise damaged
    return StoredTexts(flat, found.digest)


def write_texts(path: Path, vocabulary: str, flat: NDArray[Any]) -> bytes:
    """Replace ``path`` atomically with ``flat`` (n,) int32, readable by its owner only; return its digest.

    Raises :class:`InputError`. The caller has read ``path`` under :func:`locked`.
    """
    try:
        _, digest = write_sealed(path, _MAGIC, {"vocabulary": vocabulary}, flat.astype("<i4").tobytes(), private=True)
    except (OSError, ValueError) as error:
        raise InputError(f"{_shown(path)} cannot be written ({reason(error)}); name another file.") from None
    return digest


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes from replacing ``path``. Raises :class:`InputError` after ten seconds."""
    import filelock

    lock = filelock.FileLock(path.with_name(f".{path.name}.lock"), timeout=_LOCK_S)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise InputError(f"another program has kept {path} locked for {_LOCK_S:.0f} s; end it, then go on.") from None
    except (OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"{_shown(path)} cannot be written ({reason(error)}); name another file.") from None
    try:
        yield
    finally:
        lock.release()


def _shown(path: str | os.PathLike[str]) -> str:
    return str(path).replace("\0", "\\0")
