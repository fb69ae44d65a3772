"""Laws of what is on disk: listed when whole, found without a network, removed without touching what is another's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from localspec.models import remove as removing
from localspec.models import store
from localspec.models.store import StoredFile, StoredModel


@pytest.fixture(autouse=True)
def _own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALSPEC_DATA", str(tmp_path / "data"))


def cached(
    tmp_path: Path, repo: str, name: str, content: bytes, commit: str = "1" * 40, ours: bool = True
) -> StoredFile:
    """A file as ``huggingface_hub`` keeps it."""
    root = tmp_path / "hub" / f"models--{repo.replace('/', '--')}"
    blob, pointer = root / "blobs" / f"{hash(content):x}", root / "snapshots" / commit / name
    for path in (blob, pointer, root / "refs" / "main"):
        path.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    if not pointer.exists():
        pointer.symlink_to(os.path.relpath(blob, pointer.parent))
    (root / "refs" / "main").write_text(commit)
    if ours:
        store.claim(pointer)
    return StoredFile(name, pointer, len(content), "0" * 64)


def pulled(
    tmp_path: Path, repo: str = "u/r", quant: str | None = "Q4_0", name: str = "m-Q4_0.gguf", **rest: object
) -> StoredModel:
    file = cached(tmp_path, repo, name, b"x" * 1000)
    return store.add(StoredModel(repo, quant, (file,), **rest))  # type: ignore[arg-type]


def leftovers(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "hub").rglob("*") if not path.is_dir() or path.is_symlink()]


def test_what_was_added_is_listed_as_it_was(tmp_path: Path) -> None:
    """With everything that was known of it."""
    model = pulled(tmp_path, role="drafter", commit="abc", draft_of=("u/t:Q8_0",), pulled=5.0)
    assert store.stored_models() == [model]
    assert (model.name, model.size) == ("u/r/m-Q4_0.gguf", 1000)


def test_nothing_is_listed_where_nothing_was_pulled() -> None:
    """No folder is created."""
    assert store.stored_models() == []
    assert not store.data_dir().exists()


@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.write_bytes(b"short")])
def test_model_whose_file_is_gone_or_cut_is_not_listed(tmp_path: Path, damage: object) -> None:
    """Its record does not count."""
    model = pulled(tmp_path)
    damage(model.path)  # type: ignore[operator]
    assert store.stored_models() == []


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"repo": "u/r"}', '{"files": [{}]}', "\0", '{"files": 3}'])
def test_damaged_record_is_no_record(tmp_path: Path, text: str) -> None:
    """The others are listed."""
    model = pulled(tmp_path)
    (store.data_dir() / "pulled" / "x.json").write_text(text)
    assert store.stored_models() == [model]


@pytest.mark.parametrize("key", ["repo", "quant", "files", "role", "commit", "draft_of", "pulled"])
def test_record_without_a_key_is_no_record(tmp_path: Path, key: str) -> None:
    """A newer or older localspec may have written it."""
    pulled(tmp_path)
    (path,) = (store.data_dir() / "pulled").iterdir()
    value = json.loads(path.read_text())
    del value[key]
    path.write_text(json.dumps(value))
    assert store.stored_models() == []


@pytest.mark.parametrize(
    ("repo", "quant", "count"),
    [("u/r", None, 2), ("U/R", None, 2), ("u/r", "Q4_0", 1), ("u/r", "q8_0", 1), ("u/r", "Q6_K", 0), ("u/x", None, 0)],
)
def test_found_by_repository_and_quant(tmp_path: Path, repo: str, quant: str | None, count: int) -> None:
    """Letters' case is no difference, as on the Hub."""
    pulled(tmp_path)
    pulled(tmp_path, quant="Q8_0", name="m-Q8_0.gguf")
    assert len(store.find(repo, quant)) == count


def test_drafter_is_known_by_what_it_was_pulled_for(tmp_path: Path) -> None:
    """Also when it was pulled for another one later."""
    pulled(tmp_path, role="drafter", draft_of=("u/a:Q4_0",))
    pulled(tmp_path, role="drafter", draft_of=("u/b:Q4_0",))
    assert [len(store.drafters_for(name)) for name in ("u/a:Q4_0", "u/B:q4_0", "u/c")] == [1, 1, 0]


def test_what_is_on_disk_is_known_without_the_hub_library(tmp_path: Path) -> None:
    """Its import alone takes a third of a second; nothing here may connect, either."""
    model = pulled(tmp_path)
    code = (
        "import socket, sys\n"
        "socket.socket = None\n"
        "from localspec.models import pull, remove, store\n"
        "from localspec.models.resolve import resolve_model\n"
        "print(resolve_model('u/r:Q4_0'), len(store.stored_models()), len(remove.unfinished()))\n"
        "assert not {'huggingface_hub', 'httpx', 'httpx2', 'numpy'} & set(sys.modules), 'heavy'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == ([str(model.path), "1", "0"], "")


# Last use.


def test_last_use_is_when_it_was_loaded(tmp_path: Path) -> None:
    """Before the first load it is the time of the pull."""
    model = pulled(tmp_path, pulled=4e9)
    assert model.last_used == 4e9
    os.utime(next((store.data_dir() / "used").iterdir()), (1, 1))
    store.mark_used(model.path)
    first = StoredModel(model.repo, model.quant, model.files).last_used
    assert first > 1e9


def test_use_of_a_file_that_was_not_pulled_leaves_nothing(tmp_path: Path) -> None:
    """It never raises."""
    for path in (tmp_path / "x.gguf", "\0", ""):
        store.mark_used(path)
    assert not store.data_dir().exists()


# Removing.


def test_removing_frees_all_of_it(tmp_path: Path) -> None:
    """Bytes, names, the branch, the record, and the folders."""
    model = pulled(tmp_path)
    assert removing.bytes_freed_by([model]) == 1000
    assert removing.remove(model) == 1000
    assert store.stored_models() == []
    assert leftovers(tmp_path) == []
    assert not (tmp_path / "hub" / "models--u--r").exists()


def test_every_part_of_a_split_goes(tmp_path: Path) -> None:
    """They are one model."""
    parts = tuple(cached(tmp_path, "u/r", f"Q4/m-0000{i}-of-00002.gguf", b"%d" % i * 500) for i in (1, 2))
    model = store.add(StoredModel("u/r", "Q4_0", parts))
    assert removing.remove(model) == 1000
    assert leftovers(tmp_path) == []


def test_what_another_program_put_there_stays(tmp_path: Path) -> None:
    """Only the record goes."""
    file = cached(tmp_path, "u/r", "m.gguf", b"abc", ours=False)
    model = store.add(StoredModel("u/r", None, (file,)))
    assert (removing.bytes_freed_by([model]), removing.remove(model)) == (0, 0)
    assert file.path.read_bytes() == b"abc"
    assert store.stored_models() == []


def test_other_files_of_the_repository_stay(tmp_path: Path) -> None:
    """Its branch stays too."""
    model, other = pulled(tmp_path), cached(tmp_path, "u/r", "other.gguf", b"abc", ours=False)
    removing.remove(model)
    assert other.path.read_bytes() == b"abc"
    assert len(leftovers(tmp_path)) == 3


def test_bytes_that_another_revision_has_stay(tmp_path: Path) -> None:
    """Only the name goes."""
    model = pulled(tmp_path)
    other = cached(tmp_path, "u/r", "m-Q4_0.gguf", b"x" * 1000, commit="2" * 40, ours=False)
    assert (removing.bytes_freed_by([model]), removing.remove(model)) == (0, 0)
    assert not model.path.is_symlink()
    assert other.path.read_bytes() == b"x" * 1000


def test_newer_version_replaces_the_older(tmp_path: Path) -> None:
    """The older one's files go once the newer is listed."""
    old = pulled(tmp_path)
    file = cached(tmp_path, "u/r", "m-Q4_0.gguf", b"y" * 1000, commit="2" * 40)
    new = store.add(StoredModel("u/r", "Q4_0", (file,)))
    assert removing.remove_files(old) == 1000
    assert store.stored_models() == [new]
    assert not old.path.exists()
    assert new.path.read_bytes() == b"y" * 1000


def test_unfinished_downloads_are_known_and_freed(tmp_path: Path) -> None:
    """Only localspec's."""
    blobs = tmp_path / "hub" / "models--u--r" / "blobs"
    blobs.mkdir(parents=True)
    for name in ("a.incomplete", "b.incomplete"):
        (blobs / name).write_bytes(b"1234")
    store.claim(blobs / "a.incomplete")
    assert removing.unfinished() == [blobs / "a.incomplete"]
    assert removing.remove_unfinished() == 4
    assert removing.unfinished() == []
    assert [path.name for path in blobs.iterdir()] == ["b.incomplete"]
