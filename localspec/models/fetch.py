"""One file from the Hub into ``huggingface_hub``'s cache, such that no name there ever leads to a broken file.

The bytes go to ``blobs/<hash>.incomplete`` under ``huggingface_hub``'s own lock, from where an interrupted pull left
off; once all are there they are read back and hashed, and only then the file gets its name. (``huggingface_hub`` itself
keeps nothing of an interrupted download any more, and does not look at the hash.)
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from localspec.errors import HubError
from localspec.files import replacing
from localspec.models.hub.errors import EndedEarlyError, status_of
from localspec.models.hub.remote import Hub, Listing, RemoteFile, switched_on
from localspec.models.store import INCOMPLETE, StoredFile, claim, unclaim

_PIECE = 1 << 20
#: A lock that is free is had within this time; otherwise somebody else is at the file.
_LOCK_S = 0.2
#: Larger files are sent through Xet only, of which nothing is kept when it is interrupted.
_LARGEST = 50_000_000_000


class Watcher(Protocol):
    """Is told how a pull goes on. Bytes are those of the file that was begun last."""

    def begin(self, name: str, size: int, have: int) -> None:
        """``have`` of ``size`` bytes are there already."""

    def at(self, done: int) -> None:
        """So many bytes are there."""

    def checking(self, done: int) -> None:
        """So many bytes have been hashed."""

    def end(self, fetched: bool) -> None:
        """The file is whole and right; ``fetched`` is False where it was all there."""

    def note(self, text: str) -> None:
        """Something else worth a line."""


@dataclass(frozen=True)
class _Place:
    """Where the bytes, the unfinished bytes, the name and the lock of a file are."""

    root: Path
    blob: Path
    partial: Path
    pointer: Path
    lock: Path

    @classmethod
    def of(cls, listing: Listing, file: RemoteFile, cache: Path) -> _Place:
        """Raises :class:`HubError` for names that would lead out of the cache."""
        names = (*listing.repo.split("/"), *file.path.split("/"))
        sound = all(name not in ("", ".", "..") and not re.search(r"[\\:\0-\x1f]", name) for name in names)
        hashes = re.fullmatch(r"[0-9a-f]{40}", listing.commit) and re.fullmatch(r"[0-9a-f]{40,64}", file.etag)
        if not sound or not hashes or listing.repo.count("/") != 1:
            raise HubError(f"{listing.repo}/{file.path} is not a name that can be kept; choose another repository.")
        folder = f"models--{listing.repo.replace('/', '--')}"
        blob = cache / folder / "blobs" / file.etag
        return cls(
            cache / folder,
            blob,
            blob.with_name(f"{file.etag}{INCOMPLETE}"),
            cache / folder / "snapshots" / listing.commit / file.path,
            cache / ".locks" / folder / f"{file.etag}.lock",
        )


def missing(listing: Listing, file: RemoteFile, cache: Path) -> int:
    """Bytes of a file that are still to come."""
    place = _Place.of(listing, file, cache)
    for path in (place.pointer, place.blob):
        if _size(path) == file.size:
            return 0
    return max(0, file.size - (_size(place.partial) or 0))


def fetch(hub: Hub, listing: Listing, file: RemoteFile, cache: Path, watcher: Watcher) -> StoredFile:
    """The file, whole and checked. Raises :class:`HubError`, and OSError where the disk fails."""
    place = _Place.of(listing, file, cache)
    with _locked(place.lock, file, watcher):
        if not _there(place, file, watcher):
            _download(hub, listing, file, place, watcher)
            claim(place.pointer)
            os.replace(place.partial, place.blob)
            unclaim(place.partial)
        _link(place)
        _name_branch(place.root, listing.commit)
    return StoredFile(file.path, place.pointer, file.size, file.etag)


def _there(place: _Place, file: RemoteFile, watcher: Watcher) -> bool:
    """Whether the cache has the file, and it is right."""
    for path in (place.pointer, place.blob):
        if _size(path) == file.size:
            watcher.begin(file.path, file.size, file.size)
            if _digest(path, file, watcher.checking) == file.etag:
                watcher.end(False)
                return True
            watcher.note(f"{path} is damaged and is fetched anew")
            return False
    return False


def _download(hub: Hub, listing: Listing, file: RemoteFile, place: _Place, watcher: Watcher) -> None:
    """Leaves the whole, checked file in ``place.partial``."""
    if file.size > _LARGEST:
        raise HubError(
            f"{file.path} has {file.size / 1e9:.0f} GB, and the Hub sends files of more than {_LARGEST / 1e9:.0f} GB "
            f"through Xet only: run `hf download {listing.repo} {file.path}`, then the same command, which finds it."
        )
    place.partial.parent.mkdir(parents=True, exist_ok=True)
    claim(place.partial)
    resumed = _size(place.partial) or 0
    watcher.begin(file.path, file.size, min(resumed, file.size))
    digest = _attempt(hub, listing, file, place, watcher)
    if digest != file.etag and resumed:
        watcher.note(f"what an earlier pull left of {file.path} was damaged; beginning again")
        place.partial.unlink()
        watcher.begin(file.path, file.size, 0)
        digest = _attempt(hub, listing, file, place, watcher)
    if digest != file.etag:
        raise _wrong(place, f"its hash is {digest[:16]}…, and the Hub promised {file.etag[:16]}…", file)
    watcher.end(True)


def _attempt(hub: Hub, listing: Listing, file: RemoteFile, place: _Place, watcher: Watcher) -> str:
    reached = 0

    def receive() -> None:
        nonlocal reached
        have = _size(place.partial) or 0
        if have > file.size:
            place.partial.unlink()
            have = 0
        if have == file.size and place.partial.exists():
            return
        with hub.body(listing.repo, listing.commit, file.path, have) as body:
            if body.total is not None and body.total != file.size:
                raise _wrong(place, f"it has {body.total} bytes, and the Hub promised {file.size}", file)
            for done in _write(place.partial, min(body.start, have), body.pieces):
                reached = max(reached, done)
                watcher.at(done)
        if done_now := _size(place.partial) or 0:
            reached = max(reached, done_now)
        if (_size(place.partial) or 0) < file.size:
            raise EndedEarlyError

    try:
        hub.patiently(f"{listing.repo}/{file.path}", receive, lambda: reached)
    except HubError as error:
        if error.__cause__ is not None and status_of(error.__cause__) == 416:
            raise _wrong(place, f"it has not the {file.size} bytes that the Hub promised", file) from error
        raise
    if (_size(place.partial) or 0) > file.size:
        raise _wrong(place, f"it has more than the {file.size} bytes that the Hub promised", file)
    return _digest(place.partial, file, watcher.checking)


def _write(path: Path, start: int, pieces: Iterator[bytes]) -> Iterator[int]:
    """Write pieces from ``start`` on; gives the position after each, which is then in the system's hands."""
    with path.open("r+b" if path.exists() else "w+b") as out:
        out.truncate(start)
        out.seek(start)
        for piece in pieces:
            out.write(piece)
            out.flush()
            yield out.tell()
        os.fsync(out.fileno())


def _wrong(place: _Place, why: str, file: RemoteFile) -> HubError:
    """Removes what came."""
    place.partial.unlink(missing_ok=True)
    unclaim(place.partial)
    return HubError(f"{file.path} is not what was promised: {why}. It was removed; run the same command again.")


def _digest(path: Path, file: RemoteFile, progress: Callable[[int], None]) -> str:
    """SHA-256, or Git's name where the Hub gives that."""
    found = hashlib.sha256() if file.sha256 else hashlib.sha1(b"blob %d\0" % file.size)
    buffer, done = memoryview(bytearray(_PIECE)), 0
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            found.update(buffer[:count])
            done += count
            progress(done)
    return found.hexdigest()


def _link(place: _Place) -> None:
    """The name in the snapshot; where there are no links, it is the file itself (as ``huggingface_hub`` does it)."""
    if not place.blob.exists() or (place.pointer.exists() and os.path.samefile(place.pointer, place.blob)):
        return
    place.pointer.parent.mkdir(parents=True, exist_ok=True)
    place.pointer.unlink(missing_ok=True)
    try:
        if switched_on("HF_HUB_DISABLE_SYMLINKS"):
            raise NotImplementedError
        os.symlink(os.path.relpath(place.blob, place.pointer.parent), place.pointer)
    except (OSError, NotImplementedError):
        os.replace(place.blob, place.pointer)


def _name_branch(root: Path, commit: str) -> None:
    """``main`` is the newest commit that was pulled, so that other programs find the files without a network."""
    path = root / "refs" / "main"
    with contextlib.suppress(OSError):
        if path.exists() and path.read_text(encoding="utf-8") == commit:
            return
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as stream:
        stream.write(commit.encode())


@contextmanager
def _locked(path: Path, file: RemoteFile, watcher: Watcher) -> Iterator[None]:
    """``huggingface_hub``'s lock of the file, so that two programs do not fetch it at once."""
    from filelock import Timeout
    from huggingface_hub.utils import WeakFileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    lock: Any = WeakFileLock
    with ExitStack() as stack:
        try:
            stack.enter_context(lock(path, timeout=_LOCK_S))
        except Timeout:
            watcher.note(f"another program is fetching {file.path}; waiting for it")
            stack.enter_context(lock(path))
        yield


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
