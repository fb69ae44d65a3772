"""Laws of a model's name: a file on disk, or one sentence with the next step."""

from __future__ import annotations

from pathlib import Path

import pytest

from localspec.errors import ModelNotFoundError
from localspec.hub.resolve import TINY_ASSISTANT, TINY_TARGET, resolve_model


def test_tiny_is_built_in() -> None:
    """Both files belong to the package."""
    assert resolve_model("tiny") == TINY_TARGET
    assert TINY_TARGET.parent == TINY_ASSISTANT.parent == Path(__file__).parents[2] / "localspec" / "models"


def test_path_is_itself(tmp_path: Path) -> None:
    """As text, as a path, from the working folder, from home."""
    file = tmp_path / "m.gguf"
    file.touch()
    assert resolve_model(file) == file
    assert resolve_model(str(file)) == file


def test_path_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tilde is expanded, as shells do not for ``--model=~/x``."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "m.gguf").touch()
    assert resolve_model("~/m.gguf") == tmp_path / "m.gguf"


def test_file_that_looks_like_a_hub_name_is_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on disk comes first."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "user").mkdir()
    (tmp_path / "user" / "repo").touch()
    assert resolve_model("user/repo") == Path("user/repo")


@pytest.mark.parametrize("name", ["user/repo", "ggml-org/gemma-4-E2B-it-GGUF:Q4_K_M", "a/b:c.d-e"])
def test_hub_name_says_to_fetch_it(name: str) -> None:
    """With the name."""
    with pytest.raises(ModelNotFoundError, match="Hub") as caught:
        resolve_model(name)
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["no.gguf", "folder/no.gguf", "/no/such/file", "a/b/c", "tiny2", "nul\0byte"])
def test_missing_file_is_named(name: str) -> None:
    """With what can be given instead."""
    with pytest.raises(ModelNotFoundError, match="there is no file") as caught:
        resolve_model(name)
    assert name in str(caught.value)
