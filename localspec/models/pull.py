"""A name → a target and the drafter that goes with it, on disk and listed.

First a plan from listings alone, which says what would be fetched and from where; then the files, each checked, and
the records. A model is listed once all of its files are whole, so that whatever interrupts a pull leaves what is
listed true.
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
from localspec.models.fetch import Watcher, fetch, missing
from localspec.models.hub.choose import Chosen, HubFile, choose_drafter, choose_model, choose_named_drafter
from localspec.models.hub.errors import status_of
from localspec.models.hub.names import HubName, drafter_repositories, needs_converting, parse_name
from localspec.models.hub.remote import Hub, Listing, RemoteFile
from localspec.models.store import Role, StoredModel

#: Left free on the disk, for the file system's own needs.
_SPARE = 64 << 20


@dataclass(frozen=True)
class Wanted:
    """A model that the Hub has: the parts that were chosen from a listing."""

    listing: Listing
    chosen: Chosen
    role: Role

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        by_path = {file.path: file for file in self.listing.files}
        return tuple(by_path[file.path] for file in self.chosen.files)

    @property
    def name(self) -> str:
        if self.role == "drafter":
            return f"{self.listing.repo}/{self.chosen.first.path}"
        return str(HubName(self.listing.repo, self.chosen.quant))

    def on_disk(self) -> StoredModel | None:
        """The same files, if they are listed here, from whatever commit."""
        first = self.chosen.first.path
        for model in store.find(self.listing.repo):
            if model.files[0].name == first and [f.sha256 for f in model.files] == [f.etag for f in self.files]:
                return model
        return None


@dataclass(frozen=True)
class Plan:
    """What a pull will fetch. ``checkpoint``: the repository whose safetensors would make the only drafter there is."""

    target: Wanted | None
    drafter: Wanted | None = None
    checkpoint: str | None = None

    @property
    def wanted(self) -> tuple[Wanted, ...]:
        return tuple(part for part in (self.target, self.drafter) if part)


@dataclass(frozen=True)
class Pulled:
    """What is on disk now."""

    target: StoredModel | None
    drafter: StoredModel | None


def make_plan(hub: Hub, name: HubName, draft: str = "auto", quant: str | None = None) -> Plan:
    """Choose files. ``draft``: ``auto``, ``none`` (or ``ngram``, which needs no file), or a name on the Hub.

    ``quant`` is the target's where ``name`` has none. Raises :class:`ModelNotFoundError` with what there is,
    :class:`UsageError` for a ``draft`` that is no such name, and :class:`HubError`.
    """
    if name.quant is None and name.file is None:
        name = replace(name, quant=quant)
    listing = hub.listing(name.repo)
    name = replace(name, repo=listing.repo)
    files = _hub_files(listing)
    try:
        target = Wanted(listing, choose_model(files, name), "model")
    except ModelNotFoundError:
        # Only a drafter: `-d` takes what was pulled by its own name.
        with contextlib.suppress(ModelNotFoundError):
            return Plan(None, Wanted(listing, choose_named_drafter(files, name), "drafter"))
        raise
    if draft in ("none", "ngram"):
        return Plan(target)
    if draft != "auto":
        return Plan(target, _named(hub, draft, target))
    return _with_drafter(hub, name, target)


def _named(hub: Hub, draft: str, target: Wanted) -> Wanted:
    name = parse_name(draft)
    if name is None:
        raise UsageError(f"--draft is {draft!r}; it must be auto, none, or a name on the Hub like user/repo:QUANT.")
    listing = hub.listing(name.repo)
    name = replace(name, repo=listing.repo)
    return Wanted(listing, choose_named_drafter(_hub_files(listing), name, target.chosen), "drafter")


def _with_drafter(hub: Hub, name: HubName, target: Wanted) -> Plan:
    """The assistant in the target's own repository, else where one is known to be."""
    found = choose_drafter(_hub_files(target.listing), target.chosen)
    if found is not None:
        return Plan(target, Wanted(target.listing, found, "drafter"))
    for repo in drafter_repositories(name):
        listing = _listing_if_there(hub, repo)
        if listing and needs_converting(repo):
            return Plan(target, checkpoint=listing.repo)
        found = choose_drafter(_hub_files(listing), target.chosen) if listing else None
        if listing and found is not None:
            return Plan(target, Wanted(listing, found, "drafter"))
    return Plan(target)


def _listing_if_there(hub: Hub, repo: str) -> Listing | None:
    try:
        return hub.listing(repo)
    except HubError as error:
        if error.__cause__ is not None and status_of(error.__cause__) in (401, 403, 404):
            return None
        raise


def _hub_files(listing: Listing) -> list[HubFile]:
    return [HubFile(file.path, file.size, file.sha256) for file in listing.files]


def to_fetch(wanted: Sequence[Wanted], cache: Path) -> int:
    """Bytes that are not on disk yet."""
    parts = {(w.listing.repo, file.etag): (w.listing, file) for w in wanted if not w.on_disk() for file in w.files}
    return sum(missing(listing, file, cache) for listing, file in parts.values())


def check_space(needed: int, cache: Path, what: str) -> None:
    """Raise :class:`HubError` with the numbers unless the disk of the cache has room for ``needed`` bytes."""
    place = next((folder for folder in (cache, *cache.parents) if folder.exists()), cache)
    free = shutil.disk_usage(place).free
    if needed and needed + _SPARE > free:
        raise HubError(
            f"{what} needs {size_text(needed)} more, and the disk of {cache} has {size_text(free)} free; make room "
            "(`localspec list` shows what is there, `localspec rm` frees it) or choose a smaller quant."
        )


def pull(hub: Hub, plan: Plan, cache: Path, watcher: Watcher) -> Pulled:
    """Fetch, check and list what is planned. Raises :class:`HubError`, and OSError where the disk fails."""
    what = " with its drafter ".join(part.name for part in plan.wanted)
    check_space(to_fetch(plan.wanted, cache), cache, what)
    target = keep(hub, plan.target, cache, watcher) if plan.target else None
    drafter = keep(hub, plan.drafter, cache, watcher, target) if plan.drafter else None
    if target and drafter and (reason := mismatch(target.path, drafter.path)):
        watcher.note(f"{drafter.name} cannot draft for {target.name}: {reason}; -d auto will not use it")
    return Pulled(target, drafter)


def keep(hub: Hub, wanted: Wanted, cache: Path, watcher: Watcher, target: StoredModel | None = None) -> StoredModel:
    """Fetch a model's files and list it, as drafter of ``target`` if one is given."""
    draft_of = (target.name,) if target else ()
    if there := wanted.on_disk():
        watcher.note(f"{there.name} is on disk already")
        return store.add(replace(there, draft_of=draft_of))
    files = tuple(fetch(hub, wanted.listing, file, cache, watcher) for file in wanted.files)
    model = StoredModel(
        wanted.listing.repo, wanted.chosen.quant, files, wanted.role, wanted.listing.commit, draft_of, time.time()
    )
    return listed(model)


def listed(model: StoredModel) -> StoredModel:
    """List a model, and free the version that it replaces."""
    before = store.earlier(model)
    model = store.add(model)
    if before is not None:
        with contextlib.suppress(OSError):
            removing.replace_earlier(before)
    return model


def mismatch(target: Path, drafter: Path) -> str | None:
    """Why an assistant cannot draft for a target, from their headers; None where it can, or where that is not known."""
    from localspec.gguf.header import read_header
    from localspec.models.pairing import assistant_mismatch, is_assistant

    try:
        header = read_header(drafter)
        return assistant_mismatch(read_header(target), header) if is_assistant(header) else None
    except LocalspecError as error:
        return str(error).rstrip(".")


Convert = Callable[[Path, Path, str], None]
"""Makes a GGUF file of a checkpoint's folder: ``convert(folder, file, type)``."""


def pull_converted(
    hub: Hub, repo: str, target: StoredModel, kind: str, convert: Convert, cache: Path, watcher: Watcher
) -> StoredModel:
    """Fetch a drafter's checkpoint, convert it to ``kind``, list the result and remove the checkpoint again.

    Raises :class:`HubError`, and what ``convert`` raises.
    """
    listing = hub.listing(repo)
    needed = tuple(file for file in listing.files if _of_checkpoint(file.path))
    if not any(file.path.endswith(".safetensors") for file in needed):
        raise HubError(f"{repo} holds no safetensors to convert; use `--draft none`, or name another drafter.")
    size = sum(file.size for file in needed)
    check_space(sum(missing(listing, file, cache) for file in needed) + size, cache, f"{repo} and its conversion")
    files = tuple(fetch(hub, listing, file, cache, watcher) for file in needed)
    folder = next(file.path.parent for file in files if file.name == "config.json") if files else cache
    out = data_dir() / "converted" / repo.replace("/", "--") / f"mtp-{repo.rpartition('/')[2]}-{kind}.gguf"
    out.parent.mkdir(parents=True, exist_ok=True)
    store.claim(out)
    convert(folder, out, kind)
    sha256 = file_sha256(out)
    made = store.StoredFile(out.name, out, out.stat().st_size, sha256)
    model = listed(StoredModel(repo, kind, (made,), "drafter", listing.commit, (target.name,), time.time()))
    with contextlib.suppress(OSError):
        removing.replace_earlier(StoredModel(repo, None, files))
    return model


def _of_checkpoint(path: str) -> bool:
    """Whether the converter may want a file: weights, settings and tokenizer, at the root."""
    return "/" not in path and path.endswith((".safetensors", ".json", ".jinja", "tokenizer.model"))


def file_sha256(path: Path) -> str:
    """Of a whole file, in hexadecimal."""
    import hashlib

    found = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            found.update(piece)
    return found.hexdigest()
