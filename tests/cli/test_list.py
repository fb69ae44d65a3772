"""Laws of ``localspec list`` and ``localspec rm``: what is shown, what is removed, and that removing is confirmed."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from localspec.cli import cli
from localspec.cli.commands.list import _lines
from localspec.cli.terminal.units import age_text
from localspec.models import store
from localspec.models.resolve import TINY_ASSISTANT, TINY_TARGET
from localspec.models.store import StoredFile, StoredModel
from tests.helpers.other_programs import Home


@pytest.fixture(autouse=True)
def _own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALSPEC_DATA", str(tmp_path / "data"))


def run(*args: str, input: str | None = None) -> Result:
    return CliRunner().invoke(cli, list(args), input=input)


def pulled(tmp_path: Path, source: Path, name: str, quant: str, **rest: object) -> StoredModel:
    path = tmp_path / "hub" / "models--u--r" / "snapshots" / ("1" * 40) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(source.read_bytes())
    store.claim(path)
    file = StoredFile(name, path, path.stat().st_size, "0" * 64)
    return store.add(StoredModel("u/r", quant, (file,), **rest))  # type: ignore[arg-type]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[StoredModel, StoredModel]:
    target = pulled(tmp_path, TINY_TARGET, "m-Q8_0.gguf", "Q8_0", pulled=time.time())
    drafter = pulled(
        tmp_path, TINY_ASSISTANT, "mtp-m.gguf", "Q4_0", role="drafter", draft_of=("u/r:Q8_0",), pulled=time.time()
    )
    return target, drafter


def test_nothing_pulled_says_how_to(tmp_path: Path) -> None:
    """On standard error; the JSON is empty."""
    result = run("list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "localspec pull gemma-4-e2b" in result.stderr
    assert json.loads(run("list", "--json").stdout) == {"models": [], "unfinished_bytes": 0}


def test_models_with_the_drafter_each_would_use(pair: tuple[StoredModel, StoredModel]) -> None:
    """Found by the files, not by the records."""
    rows = json.loads(run("list", "--json").stdout)["models"]
    assert [(row["name"], row["role"], row["drafter"]) for row in rows] == [
        ("u/r:Q8_0", "model", "u/r/mtp-m.gguf"),
        ("u/r/mtp-m.gguf", "drafter", None),
    ]
    assert rows[0]["bytes"] == TINY_TARGET.stat().st_size
    text = run("list").stdout
    assert text.splitlines()[0].split() == ["NAME", "SIZE", "USED", "DRAFTER"]
    assert "u/r:Q8_0" in text
    assert "3 MB" in text


def test_use_is_shown(pair: tuple[StoredModel, StoredModel]) -> None:
    """Since when it was loaded by its name."""
    import localspec

    for mark in (store.data_dir() / "used").iterdir():
        os.utime(mark, (1e9, 1e9))
    with localspec.load("u/r:Q8_0", threads=1, exactness="off"):
        pass
    assert all(model.last_used > 1.1e9 for model in store.stored_models())
    used = [mark.stat().st_mtime for mark in (store.data_dir() / "used").iterdir()]
    assert min(used) > 1.1e9


ROWS = [
    {"name": "user/some-model-GGUF:Q4_K_M", "bytes": 4_600_000_000, "last_used": 0, "role": "model", "drafter": None},
    {"name": "u/d/mtp.gguf", "bytes": 98_000_000, "last_used": 0, "role": "drafter", "drafter": None},
]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_table_fits(width: int) -> None:
    """Narrow terminals get a line for each fact."""
    lines = _lines(ROWS, width, 90_000.0)
    assert all(len(line) <= width for line in lines)
    text = " ".join(lines)
    assert "4.6 GB" in text
    assert "1 day ago" in text
    assert "n-gram lookup" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "just now"), (59, "just now"), (60, "1 minute ago"), (7200, "2 hours ago"), (86400 * 400, "400 days ago")],
)
def test_time_since_reads_as_people_say_it(seconds: float, text: str) -> None:
    """In the largest unit."""
    assert age_text(seconds) == text


def test_models_of_other_programs_are_listed_with_their_programs(
    pair: tuple[StoredModel, StoredModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the pulled ones; a damaged file is not. Only then is there a column for the program."""
    assert "FROM" not in run("list").stdout
    home = Home(tmp_path / "home", monkeypatch)
    monkeypatch.setenv("LOCALSPEC_DATA", str(tmp_path / "data"))
    home.in_ollama("registry.ollama.ai/library/Owl/1b")
    home.in_lm_studio("u/damaged/m-Q8_0.gguf", TINY_TARGET.read_bytes()[:500_000])
    rows = json.loads(run("list", "--json").stdout)["models"]
    assert [(row["name"], row["source"]) for row in rows] == [
        ("u/r:Q8_0", "localspec"), ("u/r/mtp-m.gguf", "localspec"), ("Owl:1b", "ollama"),
    ]  # fmt: skip
    assert (rows[2]["drafter"], rows[2]["last_used"]) == ("u/r/mtp-m.gguf", None)
    monkeypatch.setenv("COLUMNS", "120")
    assert run("list").stdout.splitlines()[0].split() == ["NAME", "SIZE", "USED", "DRAFTER", "FROM"]
    for width in (40, 120):
        lines = _lines(rows, width, time.time())
        assert all(len(line) <= width for line in lines)
        assert "Ollama" in lines[-1]


# rm


def test_removing_takes_the_drafter_along(pair: tuple[StoredModel, StoredModel]) -> None:
    """Unless another model uses it."""
    size = sum(model.size for model in pair)
    result = run("rm", "u/r:Q8_0", "--yes")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.splitlines() == [
        "This frees 4 MB:",
        "  u/r:Q8_0",
        "  u/r/mtp-m.gguf",
        "Freed 4 MB.",
    ]
    assert size == 4_196_512
    assert store.stored_models() == []
    assert not pair[0].path.exists()
    assert not pair[1].path.exists()


def test_drafter_that_another_model_uses_stays(pair: tuple[StoredModel, StoredModel], tmp_path: Path) -> None:
    """Until the last one goes."""
    pulled(tmp_path, TINY_TARGET, "m-Q4_0.gguf", "Q4_0")
    store.add(StoredModel("u/r", "Q4_0", pair[1].files, "drafter", draft_of=("u/r:Q4_0",)))
    run("rm", "u/r:Q8_0", "--yes")
    assert [model.name for model in store.stored_models()] == ["u/r:Q4_0", "u/r/mtp-m.gguf"]
    run("rm", "u/r:Q4_0", "--yes")
    assert store.stored_models() == []


def test_drafter_can_go_alone(pair: tuple[StoredModel, StoredModel]) -> None:
    """Its target stays."""
    assert run("rm", "u/r/mtp-m.gguf", "--yes").exit_code == 0
    assert store.stored_models() == [pair[0]]


def test_without_a_terminal_nothing_is_removed(pair: tuple[StoredModel, StoredModel]) -> None:
    """Except with --yes."""
    result = run("rm", "u/r:Q8_0", input="y\n")
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert len(store.stored_models()) == 2


@pytest.mark.parametrize(("name", "code"), [("u/none", 1), ("u/r:Q2_K", 1), ("tiny", 1), ("x.gguf", 1)])
def test_name_that_was_not_pulled_is_one_sentence(pair: tuple[StoredModel, StoredModel], name: str, code: int) -> None:
    """With what to do."""
    result = run("rm", name, "--yes")
    assert result.exit_code == code
    assert "localspec " in result.stderr
    assert "Traceback" not in result.stderr
    assert len(store.stored_models()) == 2


def test_files_of_other_programs_are_never_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says whose they are."""
    home = Home(tmp_path / "home", monkeypatch)
    home.in_ollama("registry.ollama.ai/library/owl/1b")
    home.in_hub("u/hub", "m-Q8_0.gguf")
    before = home.everything()
    for name, program in (("owl:1b", "Ollama"), ("u/hub:Q8_0", "the Hub's cache")):
        result = run("rm", name, "--yes")
        assert result.exit_code == 1
        assert f"{name} is a file of {program}" in result.stderr
    assert home.everything() == before


@pytest.mark.parametrize("args", [(), ("u/r", "--unfinished")])
def test_rm_takes_a_name_or_the_unfinished(args: tuple[str, ...]) -> None:
    """Not both, not neither."""
    assert run("rm", *args).exit_code == 2


def test_unfinished_pulls_are_shown_and_freed(tmp_path: Path) -> None:
    """With the command that frees them."""
    partial = tmp_path / "hub" / "models--u--r" / "blobs" / "a.incomplete"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"x" * 2_000_000)
    store.claim(partial)
    assert "Interrupted pulls take 2 MB" in run("list").stderr
    result = run("rm", "--unfinished", "--yes")
    assert result.stderr.splitlines() == ["This frees 2 MB of unfinished pulls.", "Freed 2 MB."]
    assert not partial.exists()
    assert "no unfinished pulls" in run("rm", "--unfinished").stderr
