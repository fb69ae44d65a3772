"""Laws of what is remembered between runs: forgetting is allowed, a wrong answer is not."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from localspec.files import file_identity
from localspec.probe import cache as facts


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOCALSPEC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def files(cache: Path) -> list[Path]:
    return sorted(path for path in cache.rglob("*") if path.is_file())


def test_remembered_is_recalled() -> None:
    facts.remember("kind", "a key/with: anything\n", {"x": [1, 2.5, None], "y": "é"})
    assert facts.recall("kind", "a key/with: anything\n") == {"x": [1, 2.5, None], "y": "é"}


def test_newest_wins() -> None:
    facts.remember("kind", "key", {"x": 1})
    facts.remember("kind", "key", {"x": 2})
    assert facts.recall("kind", "key") == {"x": 2}


def test_keys_and_kinds_are_apart() -> None:
    facts.remember("kind", "key", {"x": 1})
    assert facts.recall("kind", "other") is None
    assert facts.recall("other", "key") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'{"key": "other", "value": {}}', b"[" * 100000])
def test_foreign_file_is_no_fact(cache: Path, content: bytes) -> None:
    facts.remember("kind", "key", {"x": 1})
    files(cache)[0].write_bytes(content)
    assert facts.recall("kind", "key") is None


def test_value_that_is_no_object_is_no_fact(cache: Path) -> None:
    facts.remember("kind", "key", {"x": 1})
    files(cache)[0].write_text('{"key": "key", "value": 3}')
    assert facts.recall("kind", "key") is None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission_remembers_nothing(cache: Path) -> None:
    cache.mkdir()
    cache.chmod(stat.S_IRUSR | stat.S_IXUSR)
    facts.remember("kind", "key", {"x": 1})
    assert facts.recall("kind", "key") is None


def test_folder_that_cannot_be_made_remembers_nothing(cache: Path) -> None:
    cache.write_text("a file is in its place")
    facts.remember("kind", "key", {"x": 1})
    assert facts.recall("kind", "key") is None


def test_number_of_facts_is_bounded(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go; no temporary file stays."""
    monkeypatch.setattr(facts, "MAX_FACTS", 3)
    for i in range(5):
        facts.remember("kind", str(i), {"x": i})
        os.utime(facts._path("kind", str(i)), (i, i))
    facts.remember("kind", "last", {"x": 9})
    assert [facts.recall("kind", str(i)) for i in range(5)] == [None, None, None, {"x": 3}, {"x": 4}]
    assert facts.recall("kind", "last") == {"x": 9}
    assert len(files(cache)) == 3


def test_many_processes_remember_at_once(cache: Path) -> None:
    """Every reader gets a whole fact."""
    code = "from localspec.probe import cache as facts\n"
    code += "for i in range(50): facts.remember('k', 'key', {'x': ['y'] * 2000})"
    children = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    while any(child.poll() is None for child in children):
        assert facts.recall("k", "key") in (None, {"x": ["y"] * 2000})
    assert [child.returncode for child in children] == [0, 0, 0]
    assert len(files(cache)) == 1


def changed(path: Path, at: int) -> None:
    """Other bytes, the same size and time."""
    before = path.stat()
    with path.open("r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)
        stream.seek(at)
        stream.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("at", [0, 5, (1 << 20) - 1, 1 << 20, (3 << 20) - 1])
def test_identity_sees_header_and_pieces(tmp_path: Path, at: int) -> None:
    """It changes with them even if size and time do not."""
    path = tmp_path / "model.gguf"
    path.write_bytes(bytes(3 << 20))
    before = file_identity(path)
    changed(path, at)
    assert file_identity(path) != before


def test_identity_sees_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"x" * 100)
    os.utime(path, ns=(1, 1))
    first = file_identity(path)
    assert file_identity(path) == first
    os.utime(path, ns=(2, 2))
    second = file_identity(path)
    path.write_bytes(b"x" * 101)
    os.utime(path, ns=(2, 2))
    assert len({first, second, file_identity(path)}) == 3


def test_identity_covers_every_part(tmp_path: Path) -> None:
    """Of a split file, named by its first part."""
    parts = [tmp_path / f"m-{i:05d}-of-00003.gguf" for i in (1, 2, 3)]
    for part in parts:
        part.write_bytes(b"x" * 10)
    before = file_identity(parts[0])
    changed(parts[2], 3)
    assert file_identity(parts[0]) != before
    parts[1].unlink()
    assert file_identity(parts[0]).count(" ") == 1
