"""A Hub of our own for every test that pulls, with an empty cache and data folder, and little patience."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from localspec.models.hub.remote import Hub, RetryPolicy
from tests.helpers.hub_server import HubServer


@dataclass
class Told:
    """Control that keeps the arguments of its calls."""

    begun: list[tuple[str, int, int]] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    ended: list[bool] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def begin(self, name: str, size: int, have: int) -> None:
        self.begun.append((name, size, have))

    def received(self, done: int) -> None:
        self.done.append(done)

    def hashed(self, done: int) -> None:
        """Not remembered."""

    def end(self, fetched: bool) -> None:
        self.ended.append(fetched)

    def note(self, text: str) -> None:
        self.notes.append(text)


@dataclass
class Clock:
    """Waits that take no time."""

    waits: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


@pytest.fixture
def server() -> Iterator[HubServer]:
    with HubServer() as running:
        yield running


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: HubServer) -> Path:
    """``huggingface_hub``'s cache; its tokens, endpoint and home are the test's, too."""
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session

    folder = tmp_path / "hf" / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hf" / "token"))
    monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LOCALSPEC_DATA", str(tmp_path / "data"))
    close_session()
    return folder


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def hub(server: HubServer, cache: Path, clock: Clock, told: Told) -> Hub:
    """Two failures in a row are tried again, the third is the last; no wait takes time."""
    return Hub(retry=RetryPolicy(attempts=3, timeout_s=5.0, sleep=clock.sleep), notify=told.note)
