"""A cache in a file: the tokens it holds, its bytes, and what must be the same for them to be good.

Invariant: what :func:`read_state` returns is what :func:`write_state` was given, to the bit; anything else raises. So a
file that is damaged, cut short or of another kind never reaches llama.cpp. Layout: magic, SHA-256 of all that follows,
the size of a JSON header, the header, the tokens as little-endian int32, the cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from localspec.errors import InputError
from localspec.files import replacing

_MAGIC = b"LSSTATE1"
_START = struct.Struct("<8s32sI")
_MOST_HEADER = 64 * 2**20


@dataclass(frozen=True)
class SavedState:
    """``cache`` holds ``tokens``. It is good for the same ``model`` and ``backend`` (build and settings) only.

    ``turn`` is a conversation's last turn, as JSON can say it.
    """

    model: str
    backend: str
    tokens: tuple[int, ...]
    cache: bytes
    turn: dict[str, Any] | None = None


def write_state(path: Path, saved: SavedState) -> int:
    """Write ``saved`` to ``path``, whole or not at all; the bytes written. Replaces only a file of this kind.

    Raises :class:`InputError`.
    """
    if path.exists() and not _is_ours(path):
        raise InputError(f"{path} exists and is no saved cache; choose another name.")
    header = _header(saved)
    tokens = np.asarray(saved.tokens, "<i4").tobytes()
    digest = hashlib.sha256()
    for part in (header, tokens, saved.cache):
        digest.update(part)
    try:
        with replacing(path) as stream:
            stream.write(_START.pack(_MAGIC, digest.digest(), len(header)))
            for part in (header, tokens, saved.cache):
                stream.write(part)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be written ({_reason(error)}); choose another name.") from None
    return _START.size + len(header) + len(tokens) + len(saved.cache)


def _header(saved: SavedState) -> bytes:
    about = {"model": saved.model, "backend": saved.backend, "tokens": len(saved.tokens), "cache": len(saved.cache)}
    try:
        return json.dumps({**about, "turn": saved.turn}).encode()
    except (TypeError, ValueError, RecursionError):  # a caller's messages may hold what JSON cannot say
        return json.dumps({**about, "turn": None}).encode()


def read_state(path: Path) -> SavedState:
    """What :func:`write_state` wrote. Raises :class:`InputError` for every other file."""
    try:
        if not path.is_file():
            raise InputError(f"there is no file {path}; check the name.")
        with path.open("rb") as stream:
            return _read(stream, os.fstat(stream.fileno()).st_size, path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({_reason(error)}).") from None


def _read(stream: BinaryIO, size: int, path: Path) -> SavedState:
    damaged = InputError(f"{path} is damaged, or no saved cache; save it again.")
    start = stream.read(_START.size)
    if len(start) < _START.size:
        raise damaged
    magic, digest, length = _START.unpack(start)
    if magic != _MAGIC or length > min(size, _MOST_HEADER):
        raise damaged
    header = stream.read(length)
    try:
        about = json.loads(header)
        count, cached = about["tokens"], about["cache"]
        fits = count >= 0 and cached >= 0 and _START.size + length + 4 * count + cached == size
    except (ValueError, TypeError, KeyError, RecursionError):
        raise damaged from None
    if not fits:
        raise damaged
    tokens, cache = stream.read(4 * count), stream.read(cached)
    found = hashlib.sha256(header)
    found.update(tokens)
    found.update(cache)
    texts = (about.get("model"), about.get("backend"))
    turn = about.get("turn")
    known = all(isinstance(text, str) for text in texts) and (turn is None or isinstance(turn, dict))
    if found.digest() != digest or not known:
        raise damaged
    return SavedState(*texts, tuple(np.frombuffer(tokens, "<i4").tolist()), cache, turn)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _is_ours(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False
