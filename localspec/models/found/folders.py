"""Models in folders of GGUF files: the Hub's cache, LM Studio's models, llama.cpp's cache."""

from __future__ import annotations

import re
from pathlib import Path

from localspec.models.found.model import FoundFile, FoundModel, Source, entries, file_size, files_below, ggufs, group
from localspec.models.found.places import read_json, read_text

#: Levels of folders in a repository that are looked at: ``MTP/``, ``BF16/``.
_LEVELS = 3
_COMMIT = re.compile(r"[0-9a-f]{40}")
_MANIFEST = re.compile(r"manifest=([^=]+)=([^=]+)=.*\.json")
_PARTS = re.compile(r"(.+)-00001-of-(\d{5})\.gguf", re.IGNORECASE)


def hub_cache(root: Path, source: Source = "huggingface") -> list[FoundModel]:
    """Models in a cache of ``huggingface_hub``'s layout: ``models--user--repo/snapshots/COMMIT/file.gguf``.

    The snapshot of the branch ``main`` comes first; of other snapshots the files that it lacks are taken.
    """
    found: dict[tuple[str, str], FoundFile] = {}
    for folder in _folders(root):
        kind, *parts = folder.name.split("--")
        if kind != "models" or len(parts) != 2:
            continue
        main = read_text(folder / "refs" / "main").strip()
        commits = sorted((path.name for path in _folders(folder / "snapshots")), key=lambda name: (name != main, name))
        for commit in filter(_COMMIT.fullmatch, commits):
            for file in ggufs("/".join(parts), folder / "snapshots" / commit, _LEVELS):
                found.setdefault((file.repo, file.name), file)
    return group(source, found.values())


def lm_studio(root: Path) -> list[FoundModel]:
    """Models in LM Studio's folder: ``publisher/repo/file.gguf``. Files elsewhere are named by their own names."""
    found = []
    for path in files_below(root, 2 + _LEVELS):
        size, parts = file_size(path), path.relative_to(root).parts
        if size and path.suffix.lower() == ".gguf":
            known = len(parts) > 2
            repo, name = ("/".join(parts[:2]), "/".join(parts[2:])) if known else ("", parts[-1])
            found.append(FoundFile(repo, name, path, size))
    return group("lm-studio", found)


def llama_cpp(root: Path) -> list[FoundModel]:
    """Models in llama.cpp's cache: ``user_repo_file.gguf``, and the layout of the Hub's cache since early 2026.

    ``manifest=user=repo=tag.json`` names the repository and the file. Files without one, such as those of
    ``--model-url``, are named by their own names.
    """
    flat = {path.name: path for path in files_below(root, 0)}
    found = []
    for name in list(flat):
        manifest = _MANIFEST.fullmatch(name)
        listed = read_json(flat[name]) if manifest else None
        first = listed.get("ggufFile") if isinstance(listed, dict) else None
        path = first.get("rfilename") if isinstance(first, dict) else None
        if manifest and isinstance(path, str):
            repo = f"{manifest[1]}/{manifest[2]}"
            for part in _all_parts(path):
                here = flat.pop(f"{repo}/{part}".replace("/", "_"), None)
                size = file_size(here) if here else None
                found += [FoundFile(repo, part, here, size)] if here and size else []
    for name, here in flat.items():
        size = file_size(here)
        if size and here.suffix.lower() == ".gguf":
            found.append(FoundFile("", name, here, size))
    return [*group("llama.cpp", found), *hub_cache(root, "llama.cpp")]


def _all_parts(path: str) -> list[str]:
    """The names of all parts of a split model by that of its first, else the name alone."""
    split = _PARTS.fullmatch(path)
    if not split:
        return [path]
    return [f"{split[1]}-{part:05d}-of-{split[2]}.gguf" for part in range(1, min(int(split[2]), 999) + 1)]


def _folders(root: Path) -> list[Path]:
    return [path for path, is_folder in entries(root) if is_folder]
