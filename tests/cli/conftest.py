"""The command line, run on an engine whose answers a test scripts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import localspec
from localspec.cli import cli
from tests.helpers.fake_engine import FakeEngine, Reply


@dataclass
class Program:
    """The command line on a fake engine."""

    engine: FakeEngine
    loads: list[tuple[tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)

    def __call__(self, *args: str, input: str | bytes | None = None) -> Result:
        return CliRunner().invoke(cli, list(args), input=input)

    def reply(self, *replies: Reply) -> None:
        self.engine.replies = list(replies)


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Program:
    """Runs ``localspec ...``; models are never opened."""
    run = Program(FakeEngine())

    def load(*args: Any, **options: Any) -> FakeEngine:
        run.loads.append((args, options))
        return run.engine

    monkeypatch.setattr(localspec, "load", load, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("LOCALSPEC_MODEL", "tiny")  # chosen, so that nothing is said about the choice
    monkeypatch.chdir(tmp_path)
    return run


@pytest.fixture
def reply() -> type[Reply]:
    """The kind of answer to script."""
    return Reply
