"""Records of pulled models, and the time of their last use. No network; ``huggingface_hub`` is not imported.

A record is a small JSON file in the data folder, written once all files of the model are complete and checked. The
files themselves are in ``huggingface_hub``'s cache. Damaged and foreign records are ignored.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from localspec.errors import ModelNotFoundError
from localspec.files import data_dir, replacing
from localspec.models.hub.names import HubName

Role = Literal["model", "drafter", "projector"]
#: Suffix of an incomplete file in ``huggingface_hub``'s cache.
INCOMPLETE = ".incomplete"


@dataclass(frozen=True)
class StoredFile:
    """A file: path in the repository, path on disk, size in bytes, and the SHA-256 that was checked."""

    name: str
    path: Path
    size: int
    sha256: str

    @property
    def ours(self) -> bool:
        """True if localspec wrote the file, so that it may remove it."""
        return is_claimed(self.path)

    def exists(self) -> bool:
        """True if the file still has the size that was checked."""
        try:
            return self.path.stat().st_size == self.size
        except (OSError, ValueError):
            return False


@dataclass(frozen=True)
class StoredModel:
    """A pulled target, drafter or projector: one file, or the parts of a split in order."""

    repo: str
    quant: str | None
    files: tuple[StoredFile, ...]
    role: Role = "model"
    commit: str = ""
    draft_of: tuple[str, ...] = field(default=())
    """Names of the targets that a drafter or a projector was pulled for."""
    pulled: float = 0.0
    """Seconds since the epoch."""

    @property
    def name(self) -> str:
        """Name on the command line. Only a target's is without its file: others may share repository and quant."""
        if self.role != "model":
            return f"{self.repo}/{self.files[0].name}"
        return f"{self.repo}:{self.quant}" if self.quant else self.repo

    @property
    def path(self) -> Path:
        """The file to load, of a split the first part."""
        return self.files[0].path

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(file.size for file in self.files)

    @property
    def last_used(self) -> float:
        """Time of the last load, or of the pull if there was none, in seconds since the epoch."""
        try:
            return max(self.pulled, _use_mark(self.path).stat().st_mtime)
        except OSError:
            return self.pulled

    def exists(self) -> bool:
        """True if all files do."""
        return bool(self.files) and all(file.exists() for file in self.files)


def stored_models() -> list[StoredModel]:
    """Recorded models whose files all exist, targets first, by name."""
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: there is no home folder
        found = [_read(path) for path in sorted((data_dir() / "pulled").glob("*.json"))]
        return sorted(
            (model for model in found if model and model.exists()),
            key=lambda model: (model.role != "model", model.name.lower()),
        )
    return []


def find(repo: str, quant: str | None = None, role: Role | None = None) -> list[StoredModel]:
    """Stored models of a repository, with that quant and role if given. Case is ignored."""
    wanted = quant.lower() if quant else None
    return [
        model
        for model in stored_models()
        if model.repo.lower() == repo.lower()
        and (wanted is None or (model.quant or "").lower() == wanted)
        and (role is None or model.role == role)
    ]


def locate(name: HubName, drafter: bool = False) -> Path:
    """The file on disk of a Hub name.

    Without a quant the choice among the stored models is as on the Hub; with ``drafter`` it is the drafter of a
    repository with both. Raises :class:`ModelNotFoundError` with the command to run when online.
    """
    from localspec.models.hub.choose import HubFile, choose_model, choose_named_drafter

    here = find(name.repo)
    by_file = {file.name: model.path for model in here for file in model.files}
    listing = [HubFile(file.name, file.size, file.sha256) for model in here for file in model.files]
    no_target = name.file is not None or all(model.role != "model" for model in here)
    for choose in (choose_named_drafter, choose_model) if drafter or no_target else (choose_model,):
        with contextlib.suppress(ModelNotFoundError):
            return by_file[choose(listing, name).first.path]
    raise ModelNotFoundError(f"{name} is not on disk; run `localspec pull {name}` when online.")


def pulled_with(name: str) -> list[StoredModel]:
    """The drafters and projectors that were pulled for the model of this name."""
    return [model for model in stored_models() if name.lower() in (target.lower() for target in model.draft_of)]


def drafters_for(name: str) -> list[StoredModel]:
    """The drafters that were pulled for the model of this name."""
    return [model for model in pulled_with(name) if model.role == "drafter"]


def earlier_version(model: StoredModel) -> StoredModel | None:
    """The record with the same repository and file name: the same model, or an older version."""
    return _read(_record(model.repo, model.files[0].name))


def add(model: StoredModel) -> StoredModel:
    """Record a model whose files are complete and checked; replaces the record of an earlier version.

    Adds the targets that the earlier version drafted for. Raises OSError if the data folder cannot be written.
    """
    path = _record(model.repo, model.files[0].name)
    before = earlier_version(model)
    if before is not None:
        model = replace(model, draft_of=tuple(dict.fromkeys((*before.draft_of, *model.draft_of))))
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, asdict(model))
    mark = _use_mark(model.path)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    return model


def mark_used(path: str | Path) -> None:
    """Record that a pulled file is loaded now. Does nothing for other files; never raises."""
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        os.utime(_use_mark(Path(path)))


def claim(path: Path) -> None:
    """Record that localspec writes this file. Called before the file exists. Raises OSError."""
    mark = _claim(path)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(os.path.abspath(path), encoding="utf-8", errors="surrogateescape")


def is_claimed(path: Path) -> bool:
    """True if localspec wrote this file."""
    return _claim(path).exists()


def claims() -> list[Path]:
    """All files that localspec has written or begun."""
    found = []
    with contextlib.suppress(OSError, RuntimeError):
        for mark in sorted((data_dir() / "claims").iterdir()):
            with contextlib.suppress(OSError, ValueError):
                found.append(Path(mark.read_text(encoding="utf-8", errors="surrogateescape")))
    return found


def unclaim(path: Path) -> None:
    """Remove the record of :func:`claim`; the file is gone, or was never written."""
    with contextlib.suppress(OSError):
        _claim(path).unlink(missing_ok=True)


def forget(model: StoredModel) -> None:
    """Remove the record of a model; its files stay."""
    with contextlib.suppress(OSError):
        _record(model.repo, model.files[0].name).unlink(missing_ok=True)
        _use_mark(model.path).unlink(missing_ok=True)


def _record(repo: str, first: str) -> Path:
    return data_dir() / "pulled" / f"{_hash(f'{repo.lower()}/{first}')}.json"


def _use_mark(path: Path) -> Path:
    """File whose modification time is the time of the last load."""
    return data_dir() / "used" / _hash(os.path.abspath(path))


def _claim(path: Path) -> Path:
    return data_dir() / "claims" / _hash(os.path.abspath(path))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()[:32]


def _read(path: Path) -> StoredModel | None:
    try:
        found = json.loads(path.read_bytes())
        parts = tuple(
            StoredFile(str(f["name"]), Path(f["path"]), int(f["size"]), str(f["sha256"])) for f in found["files"]
        )
        quant, role = found["quant"], found["role"]
        if not parts or role not in ("model", "drafter", "projector") or not isinstance(quant, str | None):
            return None
        return StoredModel(
            str(found["repo"]), quant, parts, role, str(found["commit"]), tuple(map(str, found["draft_of"])),
            float(found["pulled"]),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _write(path: Path, value: dict[str, Any]) -> None:
    with replacing(path, private=True) as stream:
        stream.write(json.dumps(value, default=str).encode())
        stream.flush()
        os.fsync(stream.fileno())
