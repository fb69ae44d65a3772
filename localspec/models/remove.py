"""Remove files of pulled models and of interrupted pulls. Only files that localspec wrote are removed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from localspec.models.store import INCOMPLETE, StoredModel, claims, forget, stored_models, unclaim


def remove(model: StoredModel) -> int:
    """Remove a model's record and files; returns the bytes freed.

    A file stays if localspec did not write it or another stored model has it. Bytes that another revision in
    ``huggingface_hub``'s cache links to stay, too. Raises OSError if a file cannot be removed.
    """
    forget(model)  # first, since the files of a recorded model are complete
    return remove_files(model)


def remove_files(model: StoredModel) -> int:
    """Remove the files of a model without a record, such as a replaced version; returns the bytes freed."""
    kept = {file.path for other in stored_models() for file in other.files}
    return sum(_remove_file(file.path) for file in model.files if file.ours and file.path not in kept)


def bytes_freed_by(chosen: Iterable[StoredModel]) -> int:
    """Bytes that :func:`remove` of all ``chosen`` models frees."""
    chosen = list(chosen)
    names = {(model.repo, model.files[0].name) for model in chosen}
    others = [other for other in stored_models() if (other.repo, other.files[0].name) not in names]
    kept = {file.path for other in others for file in other.files}
    removed = {file.path: file for model in chosen for file in model.files if file.ours and file.path not in kept}
    return sum(file.size for file in removed.values() if not _linked_elsewhere(file.path))


def _remove_file(path: Path) -> int:
    """Remove a file, the bytes of a link that no other link has, and the folders that become empty."""
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
    """The file in ``blobs/`` of the same repository to which a link in a snapshot points."""
    root = _repository(path)
    if root is None or not path.is_symlink():
        return None
    target = Path(os.path.normpath(path.parent / os.readlink(path)))
    return target if target.parent == root / "blobs" else None


def _repository(path: Path) -> Path | None:
    """The repository's folder in ``huggingface_hub``'s cache, for a file in a snapshot."""
    for parent in path.parents:
        if parent.name == "snapshots":
            return parent.parent
    return None


def _linked_elsewhere(path: Path) -> bool:
    """True if another link in the cache points to the same bytes."""
    root, blob = _repository(path), _blob(path)
    if root is None or blob is None:
        return False
    for other in (root / "snapshots").rglob("*"):
        if other != path and other.is_symlink() and _blob(other) == blob:
            return True
    return False


def _tidy(path: Path) -> None:
    """Remove empty folders, and the ref of a branch whose snapshot is gone."""
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
    for temporary in root.glob("refs/.*.tmp"):  # of a pull that was killed
        temporary.unlink(missing_ok=True)
    main = root / "refs" / "main"
    with contextlib.suppress(OSError):
        if not (root / "snapshots" / main.read_text(encoding="utf-8").strip()).exists():
            main.unlink()
    for folder in ("refs", "blobs", "snapshots", "."):
        with contextlib.suppress(OSError):
            (root / folder).rmdir()


def unfinished() -> list[Path]:
    """Incomplete files of interrupted pulls, which the same pull resumes."""
    return [path for path in claims() if path.suffix == INCOMPLETE and path.is_file()]


def remove_unfinished() -> int:
    """Remove the files of :func:`unfinished`; returns the bytes freed."""
    freed = 0
    for path in unfinished():
        freed += path.stat().st_size
        path.unlink(missing_ok=True)
        unclaim(path)
        _tidy(path.parent.parent / "snapshots" / "none" / "none")
    return freed
