"""Download one file from the Hub into ``huggingface_hub``'s cache. It gets its name there once its hash agrees.

The bytes go to ``blobs/<hash>.incomplete`` under ``huggingface_hub``'s own lock; an interrupted download is resumed.
This is written by hand because ``huggingface_hub`` discards interrupted downloads and does not check the hash.
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
from localspec.models.hub.remote import Hub, Listing, RemoteFile, is_set
from localspec.models.store import INCOMPLETE, StoredFile, claim, unclaim

#: Bytes that are hashed at a time.
_BLOCK = 1 << 20
#: Seconds to wait for a lock before another program is reported. A free lock takes less.
_LOCK_S = 0.2
#: Bytes of the largest file that is fetched. The Hub sends larger ones through Xet only, which cannot be resumed.
_MAX_SIZE = 50_000_000_000


class TransferProgress(Protocol):
    """Receiver of the progress of a pull. Byte counts are of the file that began last."""

    def begin(self, name: str, size: int, have: int) -> None:
        """Begin a file of ``size`` bytes, of which ``have`` are on disk."""

    def received(self, done: int) -> None:
        """``done`` bytes of the file are on disk."""

    def hashed(self, done: int) -> None:
        """``done`` bytes of the file are hashed."""

    def end(self, fetched: bool) -> None:
        """The file is complete and its hash agrees; ``fetched`` is False if all of it was on disk before."""

    def note(self, text: str) -> None:
        """Show a message, one line."""


@dataclass(frozen=True)
class _Place:
    """Paths of a file in the cache: its repository, bytes, incomplete bytes, name and lock."""

    root: Path
    blob: Path
    partial: Path
    pointer: Path
    lock: Path

    @classmethod
    def in_cache(cls, listing: Listing, file: RemoteFile, cache: Path) -> _Place:
        """Raises :class:`HubError` for names that would lead out of the cache."""
        names = (*listing.repo.split("/"), *file.path.split("/"))
        safe = all(name not in ("", ".", "..") and not re.search(r"[\\:\0-\x1f]", name) for name in names)
        hashes = re.fullmatch(r"[0-9a-f]{40}", listing.commit) and re.fullmatch(r"[0-9a-f]{40,64}", file.etag)
        if not safe or not hashes or listing.repo.count("/") != 1:
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


def missing_bytes(listing: Listing, file: RemoteFile, cache: Path) -> int:
    """Number of bytes of a file that are not on disk."""
    place = _Place.in_cache(listing, file, cache)
    for path in (place.pointer, place.blob):
        if _size(path) == file.size:
            return 0
    return max(0, file.size - (_size(place.partial) or 0))


def fetch(hub: Hub, listing: Listing, file: RemoteFile, cache: Path, progress: TransferProgress) -> StoredFile:
    """Fetch and check a file. Raises :class:`HubError`, and OSError if the disk fails."""
    place = _Place.in_cache(listing, file, cache)
    with _locked(place.lock, file, progress):
        if not _is_cached(place, file, progress):
            _download(hub, listing, file, place, progress)
            claim(place.pointer)
            os.replace(place.partial, place.blob)
            unclaim(place.partial)
        _link(place)
        _write_main_ref(place.root, listing.commit)
    return StoredFile(file.path, place.pointer, file.size, file.etag)


def _is_cached(place: _Place, file: RemoteFile, progress: TransferProgress) -> bool:
    """True if the cache has the file and its hash agrees."""
    for path in (place.pointer, place.blob):
        if _size(path) == file.size:
            progress.begin(file.path, file.size, file.size)
            if _digest(path, file, progress.hashed) == file.etag:
                progress.end(False)
                return True
            progress.note(f"{path} is damaged and is fetched again")
            return False
    return False


def _download(hub: Hub, listing: Listing, file: RemoteFile, place: _Place, progress: TransferProgress) -> None:
    """Download and check the file as ``place.partial``."""
    if file.size > _MAX_SIZE:
        raise HubError(
            f"{file.path} has {file.size / 1e9:.0f} GB, and the Hub sends files of more than {_MAX_SIZE / 1e9:.0f} GB "
            f"through Xet only: run `hf download {listing.repo} {file.path}`, then the same command, which finds it."
        )
    place.partial.parent.mkdir(parents=True, exist_ok=True)
    claim(place.partial)
    resumed = _size(place.partial) or 0
    progress.begin(file.path, file.size, min(resumed, file.size))
    digest = _receive_and_hash(hub, listing, file, place, progress)
    if digest != file.etag and resumed:
        progress.note(f"the part of {file.path} from an earlier pull was damaged; the download begins again")
        place.partial.unlink()
        progress.begin(file.path, file.size, 0)
        digest = _receive_and_hash(hub, listing, file, place, progress)
    if digest != file.etag:
        raise _discard(place, f"its hash is {digest[:16]}…, and the Hub promised {file.etag[:16]}…", file)
    progress.end(True)


def _receive_and_hash(hub: Hub, listing: Listing, file: RemoteFile, place: _Place, progress: TransferProgress) -> str:
    """Receive the rest of the file, with retries; the hash of the whole."""
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
                raise _discard(place, f"it has {body.total} bytes, and the Hub promised {file.size}", file)
            for done in _write(place.partial, min(body.start, have), body.pieces):
                reached = max(reached, done)
                progress.received(done)
        done = _size(place.partial) or 0
        reached = max(reached, done)
        if done < file.size:
            raise EndedEarlyError

    try:
        hub.with_retries(f"{listing.repo}/{file.path}", receive, lambda: reached)
    except HubError as error:
        if error.__cause__ is not None and status_of(error.__cause__) == 416:
            raise _discard(place, f"it has fewer than the {file.size} bytes that the Hub promised", file) from error
        raise
    if (_size(place.partial) or 0) > file.size:
        raise _discard(place, f"it has more than the {file.size} bytes that the Hub promised", file)
    return _digest(place.partial, file, progress.hashed)


def _write(path: Path, start: int, pieces: Iterator[bytes]) -> Iterator[int]:
    """Write pieces from byte ``start`` on; yields the position after each, once it is flushed."""
    with path.open("r+b" if path.exists() else "w+b") as out:
        out.truncate(start)
        out.seek(start)
        for piece in pieces:
            out.write(piece)
            out.flush()
            yield out.tell()
        os.fsync(out.fileno())


def _discard(place: _Place, why: str, file: RemoteFile) -> HubError:
    """Remove the bytes that came; returns the error."""
    place.partial.unlink(missing_ok=True)
    unclaim(place.partial)
    return HubError(f"{file.path} is not what was promised: {why}. It was removed; run the same command again.")


def _digest(path: Path, file: RemoteFile, progress: Callable[[int], None]) -> str:
    """SHA-256, or Git's hash of a blob if the Hub gives that, in hexadecimal."""
    found = hashlib.sha256() if file.sha256 else hashlib.sha1(b"blob %d\0" % file.size)
    buffer, done = memoryview(bytearray(_BLOCK)), 0
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            found.update(buffer[:count])
            done += count
            progress(done)
    return found.hexdigest()


def _link(place: _Place) -> None:
    """Link the snapshot's name to the bytes; without symbolic links move them there, as ``huggingface_hub`` does."""
    if not place.blob.exists() or (place.pointer.exists() and os.path.samefile(place.pointer, place.blob)):
        return
    place.pointer.parent.mkdir(parents=True, exist_ok=True)
    place.pointer.unlink(missing_ok=True)
    try:
        if is_set("HF_HUB_DISABLE_SYMLINKS"):
            raise NotImplementedError
        os.symlink(os.path.relpath(place.blob, place.pointer.parent), place.pointer)
    except (OSError, NotImplementedError):
        os.replace(place.blob, place.pointer)


def _write_main_ref(root: Path, commit: str) -> None:
    """Point the branch ``main`` to the pulled commit, so that other programs find the files offline."""
    path = root / "refs" / "main"
    with contextlib.suppress(OSError):
        if path.exists() and path.read_text(encoding="utf-8") == commit:
            return
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as stream:
        stream.write(commit.encode())


@contextmanager
def _locked(path: Path, file: RemoteFile, progress: TransferProgress) -> Iterator[None]:
    """Hold ``huggingface_hub``'s lock of the file, so that two programs do not fetch it at once."""
    from filelock import Timeout
    from huggingface_hub.utils import WeakFileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    lock: Any = WeakFileLock
    with ExitStack() as stack:
        try:
            stack.enter_context(lock(path, timeout=_LOCK_S))
        except Timeout:
            progress.note(f"another program is fetching {file.path}; waiting for it")
            stack.enter_context(lock(path))
        yield


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
