"""Pull a target, its drafter and its projector: first a plan from listings, then the checked files and their records.

A model is recorded once all of its files are complete, so an interrupted pull leaves correct records.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from localspec.errors import HubError, LocalspecError, ModelNotFoundError, UsageError
from localspec.files import data_dir, size_text
from localspec.models import remove as removing
from localspec.models import store
from localspec.models.fetch import TransferProgress, fetch, missing_bytes
from localspec.models.hub.choose import (
    Chosen,
    HubFile,
    choose_drafter,
    choose_model,
    choose_named_drafter,
    choose_projector,
)
from localspec.models.hub.errors import status_of
from localspec.models.hub.names import HubName, drafter_repositories, names_heads, needs_converting, parse_name
from localspec.models.hub.remote import Hub, Listing, RemoteFile
from localspec.models.store import Role, StoredModel

#: Bytes that stay free on the disk, for the file system.
_SPARE = 64 << 20


@dataclass(frozen=True)
class RemoteModel:
    """A model on the Hub: the files that were chosen from a listing."""

    listing: Listing
    chosen: Chosen
    role: Role

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        by_path = {file.path: file for file in self.listing.files}
        return tuple(by_path[file.path] for file in self.chosen.files)

    @property
    def name(self) -> str:
        if self.role != "model":
            return f"{self.listing.repo}/{self.chosen.first.path}"
        return str(HubName(self.listing.repo, self.chosen.quant))

    def on_disk(self) -> StoredModel | None:
        """The record of the same files, from any commit, None if there is none."""
        first = self.chosen.first.path
        for model in store.find(self.listing.repo):
            if model.files[0].name == first and [f.sha256 for f in model.files] == [f.etag for f in self.files]:
                return model
        return None


@dataclass(frozen=True)
class PullPlan:
    """Models that a pull fetches. ``checkpoint`` is the repository of the only drafter, if that is not GGUF."""

    target: RemoteModel | None
    drafter: RemoteModel | None = None
    checkpoint: str | None = None
    projector: RemoteModel | None = None

    @property
    def models(self) -> tuple[RemoteModel, ...]:
        return tuple(model for model in (self.target, self.drafter, self.projector) if model)


@dataclass(frozen=True)
class PulledModels:
    """Models on disk after a pull."""

    target: StoredModel | None
    drafter: StoredModel | None
    projector: StoredModel | None = None


def plan_pull(
    hub: Hub, name: HubName, draft: str = "auto", quant: str | None = None, *, media: bool = True
) -> PullPlan:
    """Choose files. ``draft`` is ``auto``, ``none``, ``ngram`` (without a file), or a name on the Hub.

    ``quant`` applies to a ``name`` without one; ``media``: with the projector of the target's repository. Raises
    :class:`ModelNotFoundError` with a list of the models, :class:`UsageError` for another ``draft``, :class:`HubError`.
    """
    plan = _plan_pair(hub, name, draft, quant)
    if plan.target is None or not media:
        return plan
    listing = plan.target.listing
    found = choose_projector(_hub_files(listing), plan.target.chosen)
    return replace(plan, projector=RemoteModel(listing, found, "projector") if found else None)


def _plan_pair(hub: Hub, name: HubName, draft: str, quant: str | None) -> PullPlan:
    if name.quant is None and name.file is None:
        name = replace(name, quant=quant)
    listing = hub.listing(name.repo)
    name = replace(name, repo=listing.repo)
    files = _hub_files(listing)
    try:
        target = RemoteModel(listing, choose_model(files, name), "model")
    except ModelNotFoundError:
        # The name may be a drafter's, which `-d` takes by its own name.
        with contextlib.suppress(ModelNotFoundError):
            return PullPlan(None, RemoteModel(listing, choose_named_drafter(files, name), "drafter"))
        raise
    if draft in ("none", "ngram"):
        return PullPlan(target)
    if draft != "auto":
        return PullPlan(target, _named_drafter(hub, draft, target))
    return _with_drafter(hub, name, target)


def _named_drafter(hub: Hub, draft: str, target: RemoteModel) -> RemoteModel:
    name = parse_name(draft)
    if name is None:
        raise UsageError(f"--draft is {draft!r}; it must be auto, none, or a name on the Hub like user/repo:QUANT.")
    listing = hub.listing(name.repo)
    name = replace(name, repo=listing.repo)
    return RemoteModel(listing, choose_named_drafter(_hub_files(listing), name, target.chosen), "drafter")


def _with_drafter(hub: Hub, name: HubName, target: RemoteModel) -> PullPlan:
    """Add the drafter in the target's own repository, else in one of :func:`drafter_repositories`.

    A model that is named after its prediction heads needs none.
    """
    if any(names_heads(text) for text in (name.repo, target.chosen.first.path)):
        return PullPlan(target)
    found = choose_drafter(_hub_files(target.listing), target.chosen)
    if found is not None:
        return PullPlan(target, RemoteModel(target.listing, found, "drafter"))
    for repo in drafter_repositories(name):
        listing = _find_listing(hub, repo)
        if listing and needs_converting(repo):
            return PullPlan(target, checkpoint=listing.repo)
        found = choose_drafter(_hub_files(listing), target.chosen) if listing else None
        if listing and found is not None:
            return PullPlan(target, RemoteModel(listing, found, "drafter"))
    return PullPlan(target)


def _find_listing(hub: Hub, repo: str) -> Listing | None:
    """The listing, None if the repository does not exist or is closed to the user."""
    try:
        return hub.listing(repo)
    except HubError as error:
        if error.__cause__ is not None and status_of(error.__cause__) in (401, 403, 404):
            return None
        raise


def _hub_files(listing: Listing) -> list[HubFile]:
    return [HubFile(file.path, file.size, file.sha256) for file in listing.files]


def bytes_to_fetch(models: Sequence[RemoteModel], cache: Path) -> int:
    """Number of bytes that are not on disk."""
    files = {(m.listing.repo, file.etag): (m.listing, file) for m in models if not m.on_disk() for file in m.files}
    return sum(missing_bytes(listing, file, cache) for listing, file in files.values())


def check_space(needed: int, cache: Path, what: str) -> None:
    """Raise :class:`HubError` with the numbers if the disk of the cache has no room for ``needed`` bytes."""
    place = next((folder for folder in (cache, *cache.parents) if folder.exists()), cache)
    free = shutil.disk_usage(place).free
    if needed and needed + _SPARE > free:
        raise HubError(
            f"{what} needs {size_text(needed)} more, and the disk of {cache} has {size_text(free)} free; make room "
            "(`localspec list` shows models, `localspec rm` removes them) or choose a smaller quant."
        )


def pull(hub: Hub, plan: PullPlan, cache: Path, progress: TransferProgress) -> PulledModels:
    """Fetch, check and record the planned models. Raises :class:`HubError`, and OSError if the disk fails."""
    what = " with ".join(model.name for model in plan.models)
    check_space(bytes_to_fetch(plan.models, cache), cache, what)
    target = _fetch_model(hub, plan.target, cache, progress) if plan.target else None
    drafter = _fetch_model(hub, plan.drafter, cache, progress, target) if plan.drafter else None
    if target and drafter and (reason := _assistant_mismatch(target.path, drafter.path)):
        progress.note(f"{drafter.name} cannot draft for {target.name}: {reason}; -d auto will not use it")
    projector = _fetch_model(hub, plan.projector, cache, progress, target) if plan.projector else None
    return PulledModels(target, drafter, projector)


def _fetch_model(
    hub: Hub, remote: RemoteModel, cache: Path, progress: TransferProgress, target: StoredModel | None = None
) -> StoredModel:
    """Fetch a model's files and record it, as belonging to ``target`` if one is given."""
    draft_of = (target.name,) if target else ()
    if stored := remote.on_disk():
        progress.note(f"{stored.name} is on disk already")
        return store.add(replace(stored, draft_of=draft_of))
    files = tuple(fetch(hub, remote.listing, file, cache, progress) for file in remote.files)
    return _record(
        StoredModel(
            remote.listing.repo, remote.chosen.quant, files, remote.role, remote.listing.commit, draft_of, time.time()
        )
    )


def _record(model: StoredModel) -> StoredModel:
    """Record a model, and remove the files of the version that it replaces."""
    before = store.earlier_version(model)
    model = store.add(model)
    if before is not None:
        with contextlib.suppress(OSError):
            removing.remove_files(before)
    return model


def _assistant_mismatch(target: Path, drafter: Path) -> str | None:
    """Reason in the headers why a file that only drafts cannot do so for a target; None if it can, or is a model."""
    from localspec.gguf.header import read_header
    from localspec.models.pairing import check_pairing, only_drafts

    try:
        header = read_header(drafter)
        return check_pairing(read_header(target), header).reason if only_drafts(header) else None
    except LocalspecError as error:
        return str(error).rstrip(".")


Convert = Callable[[Path, Path, str], None]
"""Function that converts a checkpoint to a GGUF file: ``convert(folder, file, type)``."""


def pull_converted(
    hub: Hub, repo: str, target: StoredModel, kind: str, convert: Convert, cache: Path, progress: TransferProgress
) -> StoredModel:
    """Fetch a drafter's checkpoint, convert it to ``kind``, record the result and remove the checkpoint.

    Raises :class:`HubError`, and the errors of ``convert``.
    """
    listing = hub.listing(repo)
    needed = tuple(file for file in listing.files if _is_checkpoint_file(file.path))
    if not any(file.path.endswith(".safetensors") for file in needed):
        raise HubError(f"{repo} holds no safetensors to convert; use `--draft none`, or name another drafter.")
    size = sum(file.size for file in needed)
    missing = sum(missing_bytes(listing, file, cache) for file in needed)
    check_space(missing + size, cache, f"{repo} and its conversion")
    files = tuple(fetch(hub, listing, file, cache, progress) for file in needed)
    folder = next(file.path.parent for file in files if file.name == "config.json") if files else cache
    out = data_dir() / "converted" / repo.replace("/", "--") / f"mtp-{repo.rpartition('/')[2]}-{kind}.gguf"
    out.parent.mkdir(parents=True, exist_ok=True)
    store.claim(out)
    convert(folder, out, kind)
    sha256 = file_sha256(out)
    made = store.StoredFile(out.name, out, out.stat().st_size, sha256)
    model = _record(StoredModel(repo, kind, (made,), "drafter", listing.commit, (target.name,), time.time()))
    with contextlib.suppress(OSError):
        removing.remove_files(StoredModel(repo, None, files))
    return model


def _is_checkpoint_file(path: str) -> bool:
    """True for files that the converter may read: weights, settings and tokenizer at the root."""
    return "/" not in path and path.endswith((".safetensors", ".json", ".jinja", "tokenizer.model"))


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    import hashlib

    found = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            found.update(piece)
    return found.hexdigest()
