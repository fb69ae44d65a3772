"""Folders in which other programs keep models, by their environment variables and defaults.

Hub: ``huggingface_hub.constants``. llama.cpp: ``fs_get_cache_directory`` (``common/common.cpp``). Ollama:
``envconfig.Models``, and the home of the service that its installer makes. LM Studio: ``findLMStudioHome`` of its SDK.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

#: Most bytes of a settings file or a manifest that is read.
MAX_JSON = 1 << 20


@dataclass(frozen=True)
class Places:
    """Folders of each program. They need not exist."""

    hub: tuple[Path, ...] = ()
    lm_studio: tuple[Path, ...] = ()
    llama_cpp: tuple[Path, ...] = ()
    ollama: tuple[Path, ...] = ()


def places(env: Mapping[str, str], home: Path, system: str) -> Places:
    """The folders for an environment, a home folder and ``sys.platform``."""
    caches = _folder(env, home, "XDG_CACHE_HOME") or home / ".cache"
    return Places(
        hub=(_hub(env, home, caches),),
        lm_studio=_lm_studio(env, home),
        llama_cpp=(_llama_cpp(env, home, caches, system),),
        ollama=_ollama(env, home, system),
    )


def _folder(env: Mapping[str, str], home: Path, *names: str) -> Path | None:
    """The folder that the first of these variables names, with ``~`` for the home folder."""
    text = next((env[name] for name in names if env.get(name)), "").strip().strip("\"'")
    if not text:
        return None
    return home / text[2:] if text.startswith(("~/", "~\\")) else Path(os.path.expandvars(text))


def _hub(env: Mapping[str, str], home: Path, caches: Path) -> Path:
    chosen = _folder(env, home, "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")
    return chosen or (_folder(env, home, "HF_HOME") or caches / "huggingface") / "hub"


def _llama_cpp(env: Mapping[str, str], home: Path, caches: Path, system: str) -> Path:
    chosen = _folder(env, home, "LLAMA_CACHE")
    if chosen:
        return chosen
    if system == "darwin":
        return home / "Library" / "Caches" / "llama.cpp"
    return ((_folder(env, home, "LOCALAPPDATA") if system == "win32" else None) or caches) / "llama.cpp"


def _ollama(env: Mapping[str, str], home: Path, system: str) -> tuple[Path, ...]:
    chosen = _folder(env, home, "OLLAMA_MODELS")
    if chosen:
        return (chosen,)
    service = (Path("/usr/share/ollama/.ollama/models"),) if system == "linux" else ()
    return (home / ".ollama" / "models", *service)


def _lm_studio(env: Mapping[str, str], home: Path) -> tuple[Path, ...]:
    """The models' folders of LM Studio's homes: the usual one, and another that its settings name."""
    chosen = _folder(env, home, "LMSTUDIO_HOME")
    homes = [chosen] if chosen else [home / ".lmstudio", home / ".cache" / "lm-studio"]
    pointer = read_text(home / ".lmstudio-home-pointer").strip()
    if pointer and not chosen:
        homes.insert(0, Path(pointer))
    found = []
    for folder in homes:
        settings = read_json(folder / "settings.json")
        other = settings.get("downloadsFolder") if isinstance(settings, dict) else None
        found += [Path(other)] if isinstance(other, str) and other else []
        found.append(folder / "models")
    return tuple(dict.fromkeys(found))


def read_text(path: Path) -> str:
    """A small text; empty for what cannot be read, is no regular file, or has more than :data:`MAX_JSON` bytes."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_JSON:
            return ""
        return path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return ""


def read_json(path: Path) -> object:
    """A small JSON file; None for anything else."""
    try:
        found: object = json.loads(read_text(path))
    except (ValueError, RecursionError):
        return None
    return found
