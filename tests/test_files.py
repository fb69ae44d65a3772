"""Laws of files that are whole or not there."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from localspec.files import cache_dir, config_dir, data_dir, parts, replacing


def test_folders_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each variable names its folder; without one it is the system's, with localspec's name."""
    for variable in ("LOCALSPEC_CACHE", "LOCALSPEC_DATA"):
        monkeypatch.delenv(variable, raising=False)
    for found in (cache_dir(), data_dir(), config_dir()):
        assert "localspec" in found.parts
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "x"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "y"))
        assert (data_dir(), cache_dir()) == (tmp_path / "x" / "localspec", tmp_path / "y" / "localspec")
    monkeypatch.setenv("LOCALSPEC_CACHE", str(tmp_path / "a"))
    monkeypatch.setenv("LOCALSPEC_DATA", str(tmp_path / "b"))
    assert (cache_dir(), data_dir()) == (tmp_path / "a", tmp_path / "b")


def test_a_block_that_ends_well_replaces_the_file(tmp_path: Path) -> None:
    """The folder has no other file."""
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    with replacing(path) as stream:
        stream.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_fails_changes_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    """For any exception."""
    path = tmp_path / "a.json"
    path.write_bytes(b"old")

    def write() -> None:
        with replacing(path) as stream:
            stream.write(b"half")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.skipif(sys.platform == "win32", reason="has no such permissions")
@pytest.mark.parametrize(("private", "mode"), [(True, 0o600), (False, 0o640)])
def test_who_may_read_it(tmp_path: Path, private: bool, mode: int) -> None:
    """The user alone, or everyone that the user's umask allows."""
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "a", private=private) as stream:
            stream.write(b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == mode


def test_parts_of_a_split_model(tmp_path: Path) -> None:
    """Those that are there, in order, for the first of them; any other file is alone."""
    names = [f"m-{i:05d}-of-00003.gguf" for i in (1, 2, 3)]
    for name in (names[0], names[2], "n.gguf"):
        (tmp_path / name).touch()
    assert parts(tmp_path / names[0]) == [tmp_path / names[0], tmp_path / names[2]]
    assert parts(tmp_path / names[2]) == [tmp_path / names[2]]
    assert parts(tmp_path / "n.gguf") == [tmp_path / "n.gguf"]
