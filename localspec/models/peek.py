"""The header of a file on the Hub, from its first bytes: the types of its matrices before it is downloaded."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from localspec.errors import LocalspecError
from localspec.gguf.header import GgufHeader, read_header
from localspec.models.hub.errors import EndedEarlyError, is_request_error
from localspec.models.hub.remote import Hub, Listing, RemoteFile

#: Bytes after which a header is looked for, again after four times as many. A vocabulary of 262k tokens takes 15 MB.
_FIRST, _MOST = 1 << 20, 64 << 20


def peek_header(hub: Hub, listing: Listing, file: RemoteFile) -> GgufHeader | None:
    """Read as much of a file as its header takes. None if that fails: then nothing is known of its types."""
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(LocalspecError, OSError, EndedEarlyError):
        try:
            return _peek(hub, listing, file, Path(folder) / "start.gguf")
        except Exception as error:
            if not is_request_error(error):
                raise
    return None


def _peek(hub: Hub, listing: Listing, file: RemoteFile, path: Path) -> GgufHeader | None:
    wanted, have = _FIRST, 0
    with hub.body(listing.repo, listing.commit, file.path, 0) as body, path.open("wb") as out:
        for piece in body.pieces:
            have += out.write(piece)
            if have < min(wanted, file.size):
                continue
            out.flush()
            with contextlib.suppress(LocalspecError):  # it is longer than that
                return read_header(path, size=file.size)
            wanted *= 4
            if wanted > _MOST or have >= file.size:
                return None
    return None
