"""Requests to the Hub through ``huggingface_hub``: endpoint, session, token, listings, retries.

``huggingface_hub`` is imported inside functions, here and in :mod:`localspec.models.fetch` only. All requests go to
the endpoint or to where it redirects a file. Telemetry is off, and with it the request for a list of coding agents that
``huggingface_hub`` puts into its user agent.
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
from localspec.models.hub.errors import (
    CONTINUES,
    describe_failure,
    is_request_error,
    is_temporary,
    requested_wait,
    short_reason,
)

_Result = TypeVar("_Result")

#: Values that switch on a variable of ``huggingface_hub``.
_TRUE = ("1", "ON", "YES", "TRUE")


def is_offline() -> bool:
    """True if ``HF_HUB_OFFLINE`` or ``TRANSFORMERS_OFFLINE`` is set."""
    return is_set("HF_HUB_OFFLINE") or is_set("TRANSFORMERS_OFFLINE")


def is_set(variable: str) -> bool:
    """True if a switch of ``huggingface_hub`` in the environment is on."""
    return os.environ.get(variable, "").upper() in _TRUE


@dataclass(frozen=True)
class RemoteFile:
    """A file in a repository: size in bytes, and hashes from the Hub. Small text files have Git's hash ``oid`` only."""

    path: str
    size: int
    sha256: str | None
    oid: str

    @property
    def etag(self) -> str:
        """Name of the file's bytes in ``huggingface_hub``'s cache: the hash."""
        return self.sha256 or self.oid


@dataclass(frozen=True)
class Listing:
    """The files of a repository at one commit."""

    repo: str
    commit: str
    files: tuple[RemoteFile, ...]


@dataclass(frozen=True)
class RetryPolicy:
    """Retries after temporary errors."""

    attempts: int = 6
    """Attempts in a row without a byte of progress."""
    first_wait_s: float = 1.0
    """Wait before the second attempt; it doubles with each attempt."""
    max_wait_s: float = 30.0
    """Longest wait between two attempts, unless the Hub sets one."""
    max_requested_wait_s: float = 120.0
    """Longest wait that the Hub may set."""
    timeout_s: float = 30.0
    """Time without an answer or without a byte."""
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Body:
    """Bytes of a file from byte ``start`` on. ``total`` is the file's size, None if the server did not send it."""

    start: int
    total: int | None
    pieces: Iterator[bytes]


class Hub:
    """Client of one Hub, with the user's token. ``notify`` receives the reason of each wait."""

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        retry: RetryPolicy | None = None,
        notify: Callable[[str], None] = lambda text: None,
    ) -> None:
        if is_offline():
            raise HubError("localspec is offline (--offline or HF_HUB_OFFLINE is set); pull when online.")
        constants = _constants()
        self.endpoint = (endpoint or os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
        self.retry = retry or RetryPolicy()
        self.notify = notify

    def listing(self, repo: str) -> Listing:
        """The files of a repository with sizes and hashes. Raises :class:`HubError`."""
        return self.with_retries(repo, lambda: self._listing(repo))

    def _listing(self, repo: str) -> Listing:
        from huggingface_hub import HfApi

        api = HfApi(endpoint=self.endpoint, library_name="localspec", library_version=__version__)
        try:
            info = api.model_info(repo, files_metadata=True, timeout=self.retry.timeout_s)
        except (AttributeError, KeyError, TypeError) as error:  # JSON of another shape
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
        """Request a file's bytes from ``start`` on; a server without ranges sends them from 0 on."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        url = hf_hub_url(repo, path, revision=commit, endpoint=self.endpoint)
        headers = build_hf_headers(library_name="localspec", library_version=__version__)
        headers["Accept-Encoding"] = "identity"
        if start:
            headers["Range"] = f"bytes={start}-"
        session = get_session()
        with session.stream(
            "GET", url, headers=headers, timeout=self.retry.timeout_s, follow_redirects=True
        ) as response:
            hf_raise_for_status(response)
            begins, total = _extent(response.status_code, response.headers)
            yield Body(begins, total, response.iter_bytes())

    def with_retries(self, what: str, call: Callable[[], _Result], progress: Callable[[], int] = lambda: 0) -> _Result:
        """Call until it succeeds. Raises :class:`HubError` for permanent errors and after too many attempts.

        ``progress`` counts the work that ``call`` has done; when it grows, the count of attempts starts again.
        """
        failed, before = 0, progress()
        while True:
            try:
                return call()
            except Exception as error:
                if not is_request_error(error):
                    raise
                cause = error
            failed = 1 if progress() > before else failed + 1
            before = progress()
            wait = self._wait_s(what, cause, failed)
            self.notify(f"{short_reason(cause)}; trying again in {wait:.0f} s")
            self.retry.sleep(wait)

    def _wait_s(self, what: str, cause: Exception, failed: int) -> float:
        """Seconds until the next attempt. Raises :class:`HubError` if there is none."""
        if not is_temporary(cause, self.endpoint):
            raise HubError(describe_failure(what, cause, self.endpoint)) from cause
        requested = requested_wait(cause)
        if requested is not None and requested > self.retry.max_requested_wait_s:
            raise HubError(
                f"the Hub asks to wait {requested:.0f} s before the next request ({short_reason(cause)}); wait, "
                f"{CONTINUES}."
            ) from cause
        if failed >= self.retry.attempts:
            raise HubError(
                f"the Hub ({self.endpoint}) did not send {what}: {short_reason(cause)}, {failed} times in a row; "
                f"check the network or wait, {CONTINUES}."
            ) from cause
        if requested is not None:
            return requested
        return min(self.retry.first_wait_s * 2.0 ** (failed - 1), self.retry.max_wait_s)


def _extent(status: int, headers: Mapping[str, str]) -> tuple[int, int | None]:
    """Offset of an answer in its file, and the file's size in bytes. Raises ValueError."""
    length = headers.get("Content-Length")
    if status != 206:
        encoded = headers.get("Content-Encoding", "identity") != "identity"
        return 0, None if length is None or encoded else int(length)
    span, _, total = headers["Content-Range"].removeprefix("bytes").strip().partition("/")
    return int(span.partition("-")[0]), None if total in ("", "*") else int(total)


def _constants() -> Any:
    """``huggingface_hub.constants``, with telemetry off even if the package was imported before."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    from huggingface_hub import constants

    constants.HF_HUB_DISABLE_TELEMETRY = True
    return constants


def hub_cache_dir() -> Path:
    """Absolute path of ``huggingface_hub``'s cache."""
    return Path(_constants().HF_HUB_CACHE).expanduser().resolve()
