"""The Hub, through ``huggingface_hub``: its endpoint, session, token and listings; trouble as one sentence.

``huggingface_hub`` is imported inside functions, and with :mod:`localspec.models.fetch` only here. Every request
goes to the endpoint (or where it redirects a file to), and none is made that a pull does not need: telemetry, and
with it the list of coding agents that ``huggingface_hub`` would fetch for its user agent, is switched off.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from localspec._version import __version__
from localspec.errors import HubError
from localspec.models.hub.errors import GOES_ON, asked_wait, is_trouble, may_pass, reason, refusal

_Result = TypeVar("_Result")

_TRUE = ("1", "ON", "YES", "TRUE")


def offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` (or ``TRANSFORMERS_OFFLINE``) forbids to connect."""
    return switched_on("HF_HUB_OFFLINE") or switched_on("TRANSFORMERS_OFFLINE")


def switched_on(variable: str) -> bool:
    """Whether one of ``huggingface_hub``'s switches in the environment is on."""
    return os.environ.get(variable, "").upper() in _TRUE


@dataclass(frozen=True)
class RemoteFile:
    """A file in a repository: bytes, and the hash that the Hub gives for it (Git's own for small text files)."""

    path: str
    size: int
    sha256: str | None
    oid: str

    @property
    def etag(self) -> str:
        """What ``huggingface_hub`` calls the file's bytes in its cache."""
        return self.sha256 or self.oid


@dataclass(frozen=True)
class Listing:
    """What a repository holds at one commit."""

    repo: str
    commit: str
    files: tuple[RemoteFile, ...]


@dataclass(frozen=True)
class Patience:
    """How long trouble that may pass is borne: attempts without a byte of progress, and seconds."""

    attempts: int = 6
    first_s: float = 1.0
    most_s: float = 30.0
    """The longest wait between two attempts, where the Hub does not say how long."""
    longest_s: float = 120.0
    """The longest wait that the Hub may ask for."""
    timeout_s: float = 30.0
    """Without an answer, or without a byte."""
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Body:
    """An answer's bytes, which begin at ``start`` of a file of ``total``, if the server says that."""

    start: int
    total: int | None
    pieces: Iterator[bytes]


class Hub:
    """One user's view of one Hub. ``notify`` is told why there is a wait."""

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        patience: Patience | None = None,
        notify: Callable[[str], None] = lambda text: None,
    ) -> None:
        if offline():
            raise HubError("localspec is offline (--offline or HF_HUB_OFFLINE is set); pull when online.")
        constants = _constants()
        self.endpoint = (endpoint or os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
        self.patience = patience or Patience()
        self.notify = notify

    def listing(self, repo: str) -> Listing:
        """The files of a repository with sizes and hashes. Raises :class:`HubError`."""
        return self.patiently(repo, lambda: self._listing(repo))

    def _listing(self, repo: str) -> Listing:
        from huggingface_hub import HfApi

        api = HfApi(endpoint=self.endpoint, library_name="localspec", library_version=__version__)
        try:
            info = api.model_info(repo, files_metadata=True, timeout=self.patience.timeout_s)
        except (AttributeError, KeyError, TypeError) as error:  # JSON, but of something else
            raise ValueError("it sent no listing") from error
        files = []
        for sibling in info.siblings or ():
            lfs = sibling.lfs
            size = lfs.size if lfs else sibling.size
            if size is not None and sibling.blob_id:
                files.append(RemoteFile(sibling.rfilename, size, lfs.sha256 if lfs else None, sibling.blob_id))
        if not info.sha:
            raise ValueError("no commit")
        return Listing(info.id, info.sha, tuple(files))

    @contextmanager
    def body(self, repo: str, commit: str, path: str, start: int) -> Iterator[Body]:
        """A file's bytes from ``start`` on, or from 0 where the server cannot begin in the middle."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        url = hf_hub_url(repo, path, revision=commit, endpoint=self.endpoint)
        headers = build_hf_headers(library_name="localspec", library_version=__version__)
        headers["Accept-Encoding"] = "identity"
        if start:
            headers["Range"] = f"bytes={start}-"
        session = get_session()
        with session.stream(
            "GET", url, headers=headers, timeout=self.patience.timeout_s, follow_redirects=True
        ) as response:
            hf_raise_for_status(response)
            begins, total = _extent(response.status_code, response.headers)
            yield Body(begins, total, response.iter_bytes())

    def patiently(self, what: str, call: Callable[[], _Result], progress: Callable[[], int] = lambda: 0) -> _Result:
        """``call`` until it succeeds; :class:`HubError` where trying again is no use, or was none.

        ``progress`` grows while ``call`` does something useful; that begins the count of attempts anew.
        """
        failed, before = 0, progress()
        while True:
            try:
                return call()
            except Exception as error:
                if not is_trouble(error):
                    raise
                trouble = error
            failed = 1 if progress() > before else failed + 1
            before = progress()
            wait = self._wait(what, trouble, failed)
            self.notify(f"{reason(trouble)}; trying again in {wait:.0f} s")
            self.patience.sleep(wait)

    def _wait(self, what: str, trouble: Exception, failed: int) -> float:
        """Seconds until another attempt. Raises the sentence where there is to be none."""
        if not may_pass(trouble, self.endpoint):
            raise HubError(refusal(what, trouble, self.endpoint)) from trouble
        asked = asked_wait(trouble)
        if asked is not None and asked > self.patience.longest_s:
            raise HubError(
                f"the Hub asks to wait {asked:.0f} s before the next request ({reason(trouble)}); wait, {GOES_ON}."
            ) from trouble
        if failed >= self.patience.attempts:
            raise HubError(
                f"the Hub ({self.endpoint}) did not send {what}: {reason(trouble)}, {failed} times in a row; "
                f"check the network or wait, {GOES_ON}."
            ) from trouble
        return asked if asked is not None else min(self.patience.first_s * 2 ** (failed - 1), self.patience.most_s)


def _extent(status: int, headers: Mapping[str, str]) -> tuple[int, int | None]:
    """Where an answer begins in its file, and the file's bytes. Raises ValueError."""
    length = headers.get("Content-Length")
    if status != 206:
        encoded = headers.get("Content-Encoding", "identity") != "identity"
        return 0, None if length is None or encoded else int(length)
    span, _, total = headers["Content-Range"].removeprefix("bytes").strip().partition("/")
    return int(span.partition("-")[0]), None if total in ("", "*") else int(total)


def _constants() -> Any:
    """``huggingface_hub.constants``, with telemetry off whether or not the package was imported before."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    from huggingface_hub import constants

    constants.HF_HUB_DISABLE_TELEMETRY = True
    return constants


def cache_dir() -> Path:
    """The folder of ``huggingface_hub``'s cache, absolute."""
    return Path(_constants().HF_HUB_CACHE).expanduser().resolve()
