"""What is on disk: a record for every model that was pulled whole and checked, and when it was last used.

A record is a small JSON file in the data folder, written under a temporary name and then renamed, after the last file
of the model was found to be right. The models themselves lie where ``huggingface_hub`` keeps them. Nothing here
connects to anything or imports ``huggingface_hub``, and a damaged or foreign record is no record.
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

Role = Literal["model", "drafter"]
#: How the name of a part of a file ends, in the cache of ``huggingface_hub``.
INCOMPLETE = ".incomplete"


@dataclass(frozen=True)
class StoredFile:
    """One file: its path in the repository, where it is here, bytes, and the SHA-256 that was checked."""

    name: str
    path: Path
    size: int
    sha256: str

    @property
    def ours(self) -> bool:
        """Whether localspec wrote it, so that it may remove it, and not another program."""
        return claimed(self.path)

    def there(self) -> bool:
        """Whether it still has the size it had when it was checked."""
        try:
            return self.path.stat().st_size == self.size
        except (OSError, ValueError):
            return False


@dataclass(frozen=True)
class StoredModel:
    """A target or a drafter that was pulled, as one file or as a set of parts in order."""

    repo: str
    quant: str | None
    files: tuple[StoredFile, ...]
    role: Role = "model"
    commit: str = ""
    draft_of: tuple[str, ...] = field(default=())
    """Names of the models that it was pulled to draft for."""
    pulled: float = 0.0
    """Seconds since the epoch."""

    @property
    def name(self) -> str:
        """What it is called on the command line. A drafter goes by its file: its target may share the rest."""
        if self.role == "drafter":
            return f"{self.repo}/{self.files[0].name}"
        return f"{self.repo}:{self.quant}" if self.quant else self.repo

    @property
    def path(self) -> Path:
        """What is loaded: the file, or the first part."""
        return self.files[0].path

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(file.size for file in self.files)

    @property
    def last_used(self) -> float:
        """Seconds since the epoch; when it was pulled, if it was not loaded since."""
        try:
            return max(self.pulled, _mark(self.path).stat().st_mtime)
        except OSError:
            return self.pulled

    def there(self) -> bool:
        """Whether all files are."""
        return bool(self.files) and all(file.there() for file in self.files)


def models() -> list[StoredModel]:
    """What is listed: models whose files are all there, targets first, by name. What has lost a file is not on disk."""
    with contextlib.suppress(OSError, RuntimeError):  # the latter: no home folder
        found = [_read(path) for path in sorted((data_dir() / "pulled").glob("*.json"))]
        return sorted(
            (model for model in found if model and model.there()),
            key=lambda model: (model.role == "drafter", model.name.lower()),
        )
    return []


def files() -> list[Path]:
    """The file (or first part) of every model and drafter that was pulled."""
    return [model.path for model in models()]


def find(repo: str, quant: str | None = None, role: Role | None = None) -> list[StoredModel]:
    """What is on disk of a repository, with that quant if one is given; letters' case is no difference."""
    wanted = quant.lower() if quant else None
    return [
        model
        for model in models()
        if model.repo.lower() == repo.lower()
        and (wanted is None or (model.quant or "").lower() == wanted)
        and (role is None or model.role == role)
    ]


def locate(name: HubName, drafter: bool = False) -> Path:
    """The file that a Hub name means on this disk: no network, no delay.

    A name without a quant takes of what is here what it would take of the Hub; with ``drafter`` that is the drafter of
    a repository that holds both. Raises :class:`ModelNotFoundError` with the command to run when online.
    """
    from localspec.models.hub.choose import HubFile, choose_model, choose_named_drafter

    here = find(name.repo)
    by_file = {file.name: model.path for model in here for file in model.files}
    listing = [HubFile(file.name, file.size, file.sha256) for model in here for file in model.files]
    no_target = name.file is not None or all(model.role == "drafter" for model in here)
    for choose in (choose_named_drafter, choose_model) if drafter or no_target else (choose_model,):
        with contextlib.suppress(ModelNotFoundError):
            return by_file[choose(listing, name).first.path]
    raise ModelNotFoundError(f"{name} is not on disk; run `localspec pull {name}` when online.")


def drafters_for(name: str) -> list[StoredModel]:
    """The drafters that were pulled to go with the model of that name."""
    return [model for model in models() if name.lower() in (target.lower() for target in model.draft_of)]


def earlier(model: StoredModel) -> StoredModel | None:
    """What is listed under the same file name of the same repository: the same model, or an older version."""
    return _read(_record(model.repo, model.files[0].name))


def add(model: StoredModel) -> StoredModel:
    """List a model whose files are whole and checked, in place of an earlier version.

    What it drafted for before, it still drafts for. Raises OSError where the data folder cannot be written.
    """
    path = _record(model.repo, model.files[0].name)
    before = earlier(model)
    if before is not None:
        model = replace(model, draft_of=tuple(dict.fromkeys((*before.draft_of, *model.draft_of))))
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, asdict(model))
    mark = _mark(model.path)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    return model


def used(path: str | Path) -> None:
    """Remember that a file was loaded now, if it is one that was pulled. Never raises."""
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        os.utime(_mark(Path(path)))


def claim(path: Path) -> None:
    """Say that localspec writes this file, before it is there. Raises OSError."""
    mark = _claim(path)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(os.path.abspath(path), encoding="utf-8", errors="surrogateescape")


def claimed(path: Path) -> bool:
    """Whether localspec wrote this file."""
    return _claim(path).exists()


def claims() -> list[Path]:
    """Every file that localspec wrote or began to."""
    found = []
    with contextlib.suppress(OSError, RuntimeError):
        for mark in sorted((data_dir() / "claims").iterdir()):
            with contextlib.suppress(OSError, ValueError):
                found.append(Path(mark.read_text(encoding="utf-8", errors="surrogateescape")))
    return found


def unclaim(path: Path) -> None:
    """The file is gone, or was never written."""
    with contextlib.suppress(OSError):
        _claim(path).unlink(missing_ok=True)


def forget(model: StoredModel) -> None:
    """Take a model off the list; its files stay."""
    with contextlib.suppress(OSError):
        _record(model.repo, model.files[0].name).unlink(missing_ok=True)
        _mark(model.path).unlink(missing_ok=True)


def _record(repo: str, first: str) -> Path:
    return data_dir() / "pulled" / f"{_hash(f'{repo.lower()}/{first}')}.json"


def _mark(path: Path) -> Path:
    """Its time of change is when the file was last loaded."""
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
        if not parts or role not in ("model", "drafter") or not isinstance(quant, str | None):
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
