"""A cache in a file: the tokens it holds, its bytes, and the model and settings that it is good for.

Invariant: :func:`read_state` returns exactly what :func:`write_state` was given and raises for every other file. So a
file that is damaged, cut short or of another kind never reaches llama.cpp. Layout: a sealed file with two parts, the
tokens as little-endian int32, or int64 with pictures or sounds and the cache.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from localspec.errors import InputError
from localspec.files import DamagedFileError, read_sealed, reason, write_sealed
from localspec.media.cells import has_cells

_MAGIC = b"LSSTATE1"


@dataclass(frozen=True)
class SavedState:
    """A ``cache`` of ``tokens``, good for the same ``model`` and ``backend`` (build and settings) only.

    ``turn`` is the last turn of a conversation, in types that JSON has. ``prefilled`` tokens of the cache come from
    prefill passes over chunks of ``chunk`` tokens (see :class:`localspec.generation.prefill.Prefill`).
    """

    model: str
    backend: str
    tokens: tuple[int, ...]
    cache: bytes
    turn: dict[str, Any] | None = None
    chunk: int = 1
    prefilled: int = 0


def write_state(path: Path, saved: SavedState) -> int:
    """Write ``saved`` to ``path``, whole or not at all; returns the bytes written. Replaces only a file of this kind.

    A turn that JSON cannot express is left out. Raises :class:`InputError`.
    """
    if path.exists() and not _is_state(path):
        raise InputError(f"{path} exists and is no saved cache; choose another name.")
    width = 8 if has_cells(saved.tokens) else 4
    header = {
        "model": saved.model, "backend": saved.backend, "tokens": len(saved.tokens), "cache": len(saved.cache),
        "turn": saved.turn if _fits_json(saved.turn) else None, "chunk": saved.chunk, "prefilled": saved.prefilled,
        "width": width,
    }  # fmt: skip
    try:
        size, _ = write_sealed(path, _MAGIC, header, np.asarray(saved.tokens, f"<i{width}").tobytes(), saved.cache)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be written ({reason(error)}); choose another name.") from None
    return size


def _fits_json(turn: dict[str, Any] | None) -> bool:
    try:
        json.dumps(turn)
    except (TypeError, ValueError, RecursionError):  # a caller's messages may hold anything
        return False
    return True


def read_state(path: Path) -> SavedState:
    """Read a file written by :func:`write_state`. Raises :class:`InputError` for every other file."""
    try:
        if not path.is_file():
            raise InputError(f"there is no file {path}; check the name.")
        found = read_sealed(path, _MAGIC, lambda header, _: (_width(header) * header["tokens"], header["cache"]))
        tokens, cache = found.parts
        model, backend, turn = (found.header.get(name) for name in ("model", "backend", "turn"))
        width = _width(found.header)
        chunk, prefilled = found.header.get("chunk", 1), found.header.get("prefilled", 0)
        if not isinstance(model, str) or not isinstance(backend, str) or not isinstance(turn, dict | None):
            raise DamagedFileError("wrong header")
        if type(chunk) is not int or type(prefilled) is not int or not 0 <= prefilled <= len(tokens) // width:
            raise DamagedFileError("wrong header")
    except DamagedFileError:
        raise InputError(f"{path} is damaged, or no saved cache; save it again.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({reason(error)}).") from None
    ids = tuple(np.frombuffer(tokens, f"<i{width}").tolist())
    return SavedState(model, backend, ids, cache, turn, chunk, prefilled)


def _width(header: dict[str, Any]) -> int:
    """Bytes of a token. Raises ValueError for an impossible number."""
    width = header.get("width", 4)
    if width not in (4, 8):
        raise ValueError("wrong header")
    return int(width)


def _is_state(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False
