"""Frees disk: files of a pulled model, and what interrupted pulls left. Never a file that localspec did not write."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from localspec.models.store import INCOMPLETE, StoredModel, claims, forget, models, unclaim


def remove(model: StoredModel) -> int:
    """Take a model off the list and remove its files; gives the bytes that this freed.

    A file stays if localspec did not write it, if another listed model has it, or (its bytes, not its name) if another
    revision in the cache of ``huggingface_hub`` links to it. Raises OSError where a file cannot be removed.
    """
    forget(model)  # first: what is listed is whole
    return _remove_files(model)


def replace_earlier(before: StoredModel) -> int:
    """Remove the files of a version that another one, listed by now, has replaced; gives the bytes freed."""
    return _remove_files(before)


def _remove_files(model: StoredModel) -> int:
    kept = {file.path for other in models() for file in other.files}
    return sum(_remove_file(file.path) for file in model.files if file.ours and file.path not in kept)


def freed_by(chosen: Iterable[StoredModel]) -> int:
    """Bytes that :func:`remove` would free, of all of ``chosen`` together."""
    chosen = list(chosen)
    names = {(model.repo, model.files[0].name) for model in chosen}
    kept = {f.path for other in models() if (other.repo, other.files[0].name) not in names for f in other.files}
    gone = {f.path: f for model in chosen for f in model.files if f.ours and f.path not in kept}
    return sum(file.size for file in gone.values() if not _linked_elsewhere(file.path))


def _remove_file(path: Path) -> int:
    """A file, and of a link the bytes it leads to if nothing else does; then the folders that this leaves empty."""
    blob = _blob(path)
    shared = _linked_elsewhere(path)
    size = path.stat().st_size if path.exists() else 0
    path.unlink(missing_ok=True)
    unclaim(path)
    if blob is not None and not shared:
        blob.unlink(missing_ok=True)
    _tidy(path)
    return 0 if shared else size


def _blob(path: Path) -> Path | None:
    """The file below ``blobs/`` of the same repository that a link of a snapshot leads to."""
    root = _repository(path)
    if root is None or not path.is_symlink():
        return None
    target = Path(os.path.normpath(path.parent / os.readlink(path)))
    return target if target.parent == root / "blobs" else None


def _repository(path: Path) -> Path | None:
    """The folder of ``huggingface_hub``'s cache that holds the repository of a file in a snapshot."""
    for parent in path.parents:
        if parent.name == "snapshots":
            return parent.parent
    return None


def _linked_elsewhere(path: Path) -> bool:
    """Whether another name in the cache leads to the same bytes."""
    root, blob = _repository(path), _blob(path)
    if root is None or blob is None:
        return False
    for other in (root / "snapshots").rglob("*"):
        if other != path and other.is_symlink() and _blob(other) == blob:
            return True
    return False


def _tidy(path: Path) -> None:
    """Remove what the last file left behind: empty folders, and a branch's name for a snapshot that is gone."""
    root = _repository(path)
    if root is None:
        with contextlib.suppress(OSError):
            path.parent.rmdir()
        return
    for parent in path.parents:
        with contextlib.suppress(OSError):
            parent.rmdir()
        if parent.name == "snapshots":
            break
    for left in root.glob("refs/.*.tmp"):  # of a pull that was killed
        left.unlink(missing_ok=True)
    main = root / "refs" / "main"
    with contextlib.suppress(OSError):
        if not (root / "snapshots" / main.read_text(encoding="utf-8").strip()).exists():
            main.unlink()
    for folder in ("refs", "blobs", "snapshots", "."):
        with contextlib.suppress(OSError):
            (root / folder).rmdir()


def unfinished() -> list[Path]:
    """Parts of files whose pull was interrupted; the same pull goes on from them."""
    return [path for path in claims() if path.suffix == INCOMPLETE and path.is_file()]


def remove_unfinished() -> int:
    """Free what :func:`unfinished` lists; gives the bytes."""
    freed = 0
    for path in unfinished():
        freed += path.stat().st_size
        path.unlink(missing_ok=True)
        unclaim(path)
        _tidy(path.parent.parent / "snapshots" / "none" / "none")
    return freed
