"""A model of another program, and the walk through folders that nobody has checked."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from localspec.models.hub.choose import HubFile, complete_models, is_drafter
from localspec.models.hub.names import is_drafter_repository
from localspec.models.store import Role

#: The programs, in the order in which their models are taken, as JSON names them.
Source = Literal["huggingface", "lm-studio", "llama.cpp", "ollama"]
#: Their names in a sentence.
PROGRAMS: dict[str, str] = {
    "huggingface": "the Hub's cache",
    "lm-studio": "LM Studio",
    "llama.cpp": "llama.cpp",
    "ollama": "Ollama",
}
#: Most entries of folders that are looked at for one program.
_MAX_ENTRIES = 50_000


@dataclass(frozen=True)
class FoundFile:
    """A GGUF file: its repository (``user/repo``, empty if unknown), its path there, its path here, size in bytes."""

    repo: str
    name: str
    path: Path
    size: int


@dataclass(frozen=True)
class FoundModel:
    """A model of another program: one file, or all parts of a split in order."""

    source: Source
    name: str
    """Name on the command line, with the capitals that the program gives it."""
    repo: str
    quant: str | None
    files: tuple[FoundFile, ...]
    role: Role = "model"

    @property
    def path(self) -> Path:
        """The file to load, of a split the first part."""
        return self.files[0].path

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(file.size for file in self.files)


def group(source: Source, files: Iterable[FoundFile]) -> list[FoundModel]:
    """Put the files of repositories together to models, and name them as ``localspec pull`` would.

    The name is ``user/repo:QUANT``, or that of the file where models share a quant, and of drafters.
    """
    by_repo: dict[str, list[FoundFile]] = {}
    for file in files:
        by_repo.setdefault(file.repo, []).append(file)
    found = []
    for repo, own in by_repo.items():
        by_name = {file.name: file for file in own}
        models = complete_models([HubFile(file.name, file.size) for file in by_name.values()])
        roles: list[Role] = ["drafter" if _drafts(repo, model.first.path) else "model" for model in models]
        quants = [model.quant for model, role in zip(models, roles, strict=True) if role == "model"]
        for model, role in zip(models, roles, strict=True):
            by_quant = repo and model.quant and role == "model" and quants.count(model.quant) == 1
            name = f"{repo}:{model.quant}" if by_quant else "/".join(filter(None, (repo, model.first.path)))
            parts = tuple(by_name[file.path] for file in model.files)
            found.append(FoundModel(source, name, repo, model.quant, parts, role))
    return found


def _drafts(repo: str, path: str) -> bool:
    return is_drafter(path) or is_drafter_repository(repo)


def ggufs(repo: str, root: Path, depth: int) -> list[FoundFile]:
    """The GGUF files below ``root``, named by their paths from there."""
    found = []
    for path in files_below(root, depth):
        size = file_size(path)
        if size and path.suffix.lower() == ".gguf":
            found.append(FoundFile(repo, path.relative_to(root).as_posix(), path, size))
    return found


def files_below(root: Path, depth: int) -> Iterator[Path]:
    """Paths of files in ``root`` and in folders at most ``depth`` levels below it, by name.

    Links are followed, and no folder is entered twice, so a circle of links ends.
    """
    entered: set[tuple[int, int]] = set()
    left = _MAX_ENTRIES

    def walk(folder: Path, levels: int) -> Iterator[Path]:
        nonlocal left
        try:
            status = os.stat(folder)
        except (OSError, ValueError):
            return
        if (status.st_dev, status.st_ino) in entered:
            return
        entered.add((status.st_dev, status.st_ino))
        found = entries(folder)[: max(0, left)]
        left -= len(found)
        yield from (path for path, is_folder in found if not is_folder)
        for path in (path for path, is_folder in found if is_folder and levels):
            yield from walk(path, levels - 1)

    return walk(root, depth)


def entries(folder: Path) -> list[tuple[Path, bool]]:
    """Paths in a folder by name, and whether each is a folder; what cannot be read is passed over."""
    found = []
    try:
        listed = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (OSError, ValueError):
        return []
    for entry in listed:
        with contextlib.suppress(OSError):  # a circle of links
            found.append((folder / entry.name, entry.is_dir()))
    return found


def file_size(path: Path) -> int | None:
    """Bytes of a regular file, None for anything else."""
    try:
        return path.stat().st_size if path.is_file() else None
    except (OSError, ValueError):
        return None
