"""Small facts remembered between runs: which file loads, what a machine measured.

A fact is a JSON object under a kind and a key, one file each, below :func:`cache_dir`. Forgetting is always allowed:
a file that is damaged, foreign or of another key is no fact, and a folder that cannot be written remembers nothing.
So nothing here raises, and whoever asks must be able to find the fact out again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localspec.files import replacing

#: Facts kept of a kind; the oldest go first.
MOST = 512


def cache_dir() -> Path:
    """``$LOCALSPEC_CACHE``, or the user's cache folder of this system; it need not exist."""
    chosen = os.environ.get("LOCALSPEC_CACHE")
    if chosen:
        return Path(chosen)
    import platformdirs

    return platformdirs.user_cache_path("localspec")


def recall(kind: str, key: str) -> dict[str, Any] | None:
    """What was remembered, or None. ``kind`` is a folder's name."""
    try:
        fact = json.loads(_file(kind, key).read_bytes())
    except (OSError, ValueError, RecursionError, RuntimeError):  # the last: no home folder
        return None
    value = fact.get("value") if isinstance(fact, dict) and fact.get("key") == key else None
    return value if isinstance(value, dict) else None


def remember(kind: str, key: str, value: Mapping[str, Any]) -> None:
    """Keep ``value`` (what JSON can say) for :func:`recall`, here and in later runs, if the folder can be written."""
    text = json.dumps({"key": key, "value": dict(value)})
    with contextlib.suppress(OSError, RuntimeError):
        path = _file(kind, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, private=True) as stream:
            stream.write(text.encode())
        _forget_oldest(path.parent)


def _file(kind: str, key: str) -> Path:
    name = hashlib.sha256(key.encode("utf-8", errors="surrogatepass")).hexdigest()[:32]
    return cache_dir() / kind / f"{name}.json"


def _forget_oldest(folder: Path) -> None:
    """Keep the youngest :data:`MOST`. Another process may remove the same files at the same time."""
    facts = [entry for entry in os.scandir(folder) if entry.name.endswith(".json")]
    if len(facts) <= MOST:
        return
    ages = []
    for entry in facts:
        with contextlib.suppress(OSError):
            ages.append((entry.stat().st_mtime_ns, entry.path))
    for _, name in sorted(ages)[: len(facts) - MOST]:
        with contextlib.suppress(OSError):
            os.unlink(name)
