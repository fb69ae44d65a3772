"""Laws of a model's name: a file on disk, or one sentence with the next step."""

from __future__ import annotations

from pathlib import Path

import pytest

from localspec.errors import ModelNotFoundError
from localspec.models import store
from localspec.models.resolve import TINY_ASSISTANT, TINY_TARGET, resolve_model
from tests.helpers.paths import ROOT


def test_tiny_is_built_in() -> None:
    """Both files belong to the package."""
    assert resolve_model("tiny") == TINY_TARGET
    assert TINY_TARGET.parent == TINY_ASSISTANT.parent == ROOT / "localspec/models/builtin"


def test_path_is_itself(tmp_path: Path) -> None:
    """A text or a path, relative to the working folder or to the home folder."""
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
    """Files on disk have priority."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "user").mkdir()
    (tmp_path / "user" / "repo").touch()
    assert resolve_model("user/repo") == Path("user/repo")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for what is pulled, with nothing in it; and another to work in."""
    monkeypatch.setenv("LOCALSPEC_DATA", str(tmp_path / "data"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def pull(folder: Path, repo: str, name: str, quant: str | None) -> Path:
    """A model that is listed as pulled."""
    path = folder / repo.replace("/", "--") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"GGUF")
    store.add(store.StoredModel(repo, quant, (store.StoredFile(name, path, 4, "0" * 64),)))
    return path


@pytest.mark.parametrize(
    "name",
    ["user/repo", "ggml-org/gemma-4-E2B-it-GGUF:Q4_K_M", "a/b:c.d-e", "user/repo/model.gguf", "hf.co/user/repo"],
)
def test_hub_name_says_to_pull_it(data: Path, name: str) -> None:
    """With the name, as it is spelt in full; nothing is downloaded."""
    with pytest.raises(ModelNotFoundError, match=rf"localspec pull {name.removeprefix('hf.co/')}"):
        resolve_model(name)


def test_pulled_model_is_found_by_its_names(data: Path) -> None:
    """In full, without a quant, as an address, by its short name."""
    path = pull(data, "unsloth/gemma-4-E2B-it-GGUF", "gemma-4-E2B-it-Q4_K_M.gguf", "Q4_K_M")
    for name in (
        "unsloth/gemma-4-E2B-it-GGUF:Q4_K_M",
        "unsloth/gemma-4-E2B-it-GGUF",
        "unsloth/gemma-4-E2B-it-GGUF/gemma-4-E2B-it-Q4_K_M.gguf",
        "https://huggingface.co/unsloth/gemma-4-E2B-it-GGUF",
        "gemma-4-e2b",
        "gemma-4-e2b:q4_k_m",
    ):
        assert resolve_model(name) == path
    with pytest.raises(ModelNotFoundError, match="pull unsloth/gemma-4-E2B-it-GGUF:Q8_0"):
        resolve_model("gemma-4-e2b:Q8_0")


def test_file_goes_before_a_name_and_a_name_before_a_folder(data: Path) -> None:
    """A folder of the same name is no model; where nothing was pulled it is named as it was given."""
    Path("user/repo").mkdir(parents=True)
    assert resolve_model("user/repo") == Path("user/repo")
    path = pull(data, "user/repo", "m.gguf", None)
    assert resolve_model("user/repo") == path
    Path("user/other").touch()
    pull(data, "user/other", "m.gguf", None)
    assert resolve_model("user/other") == Path("user/other")


def test_path_into_a_folder_that_is_there_is_a_path(data: Path) -> None:
    """Wrongly spelt, and not something to pull."""
    Path("models").mkdir()
    with pytest.raises(ModelNotFoundError, match=r"there is no file models/a/b\.gguf"):
        resolve_model("models/a/b.gguf")


def test_name_too_long_for_a_file_is_not_found(data: Path) -> None:
    """The system's error does not reach the user."""
    with pytest.raises(ModelNotFoundError, match="there is no file"):
        resolve_model("x" * 5000)


@pytest.mark.parametrize("name", ["no.gguf", "folder/no.gguf", "/no/such/file", "a/b/c", "tiny2", "nul\0byte"])
def test_missing_file_is_named(name: str) -> None:
    """With what can be given instead."""
    with pytest.raises(ModelNotFoundError, match="there is no file") as caught:
        resolve_model(name)
    assert name in str(caught.value)


def test_name_after_the_drafters_flag_is_the_drafter(data: Path) -> None:
    """Of a repository that has both; a repository of assistants is one either way."""
    repo, heads = "ggml-org/gemma-4-E2B-it-GGUF", "u/gemma-4-E2B-it-assistant-GGUF"
    target = pull(data, repo, "gemma-4-E2B-it-Q8_0.gguf", "Q8_0")
    drafter = pull(data, repo, "mtp-gemma-4-E2B-it-Q8_0.gguf", "Q8_0")
    head = pull(data, heads, "head.gguf", None)
    assert resolve_model(repo) == target
    assert resolve_model(repo, drafter=True) == drafter
    assert resolve_model(heads, drafter=True) == head
