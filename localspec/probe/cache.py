"""Facts measured on this machine, kept between runs as JSON files below :func:`localspec.files.cache_dir`.

A fact has a kind (a folder's name) and a key. Any fact may be missing: it may have been removed, its file may be
damaged, or the folder may not be writable. Nothing here raises, so the caller must be able to measure it again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localspec.files import cache_dir, replacing

#: Facts kept of a kind; the oldest are removed first.
MAX_FACTS = 512


def recall(kind: str, key: str) -> dict[str, Any] | None:
    """The value that was remembered, or None."""
    try:
        fact = json.loads(_path(kind, key).read_bytes())
    except (OSError, ValueError, RecursionError, RuntimeError):  # RuntimeError: no home folder
        return None
    value = fact.get("value") if isinstance(fact, dict) and fact.get("key") == key else None
    return value if isinstance(value, dict) else None


def remember(kind: str, key: str, value: Mapping[str, Any]) -> None:
    """Keep ``value`` (as JSON) for :func:`recall`, in this run and later ones, if the folder can be written."""
    text = json.dumps({"key": key, "value": dict(value)})
    with contextlib.suppress(OSError, RuntimeError):
        path = _path(kind, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, private=True) as stream:
            stream.write(text.encode())
        _remove_oldest(path.parent)


def _path(kind: str, key: str) -> Path:
    name = hashlib.sha256(key.encode("utf-8", errors="surrogatepass")).hexdigest()[:32]
    return cache_dir() / kind / f"{name}.json"


def _remove_oldest(folder: Path) -> None:
    """Keep the youngest :data:`MAX_FACTS`. Another process may remove the same files at the same time."""
    facts = [entry for entry in os.scandir(folder) if entry.name.endswith(".json")]
    if len(facts) <= MAX_FACTS:
        return
    ages = []
    for entry in facts:
        with contextlib.suppress(OSError):
            ages.append((entry.stat().st_mtime_ns, entry.path))
    for _, name in sorted(ages)[: len(facts) - MAX_FACTS]:
        with contextlib.suppress(OSError):
            os.unlink(name)
