"""Laws of ``localspec doctor``: its report on machine, pair and files, and its next steps."""

from __future__ import annotations

import builtins
import json
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from localspec.cli import cli
from localspec.cli.doctor.report import costs_record, fitting, model_steps, on_disk, pair_steps, verdict
from localspec.control.costs import Costs, Curve
from localspec.llama.devices import Device
from localspec.models import store
from localspec.models.recommended import RECOMMENDED

NAMES = ["localspec", "llama.cpp", "processor", "memory", "device", "pair", "exactness", "costs", "on", "fits"]


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALSPEC_DATA", str(tmp_path / "data"))


def test_the_built_in_pair_is_looked_at() -> None:
    """Verdict, versions, devices, drafter, exactness, costs, files and next steps, as lines."""
    told = CliRunner().invoke(cli, ["doctor"])
    assert told.exit_code == 0
    first, *rest = told.stdout.splitlines()
    assert first.startswith("All is well")
    end = rest.index("Next:")
    names = [line.split()[0] for line in rest[:end] if line]
    assert [name for name in dict.fromkeys(names) if name in NAMES] == NAMES
    assert any("localspec pull" in line or "localspec chat" in line for line in rest[end:])


def test_json_has_it_all() -> None:
    """With numbers in bytes and milliseconds."""
    found = json.loads(CliRunner().invoke(cli, ["doctor", "--json"]).stdout)
    assert "mtp" in found["pair"]["drafters"]
    assert (found["pair"]["exactness"], found["pair"]["widest"]) == ("exact", 32)
    assert found["verdict"]["level"] == "good"
    assert found["machine"]["memory"] > 2**28
    assert found["pair"]["memory"] is None or 2**24 < found["pair"]["memory"] < 2**36
    assert "cpu" in found["build"]["backends"]
    assert float(found["costs"]["verify_ms"]["1"]) > 0
    assert {row["target"] for row in found["fits"]} == {pair.target for pair in RECOMMENDED}
    assert found["next"]


def test_nothing_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even looked up."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert CliRunner().invoke(cli, ["doctor", "-d", "none"]).exit_code == 0


def test_a_model_that_is_not_there() -> None:
    """One sentence."""
    told = CliRunner().invoke(cli, ["doctor", "-m", "absent.gguf"])
    assert (told.exit_code, told.stdout) == (1, "")
    assert "absent.gguf" in told.stderr


def test_library_that_cannot_be_loaded_is_said_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what doctor is for."""
    real = builtins.__import__

    def fail(name: str, *args: Any, **options: Any) -> Any:
        if name == "localspec.llama" and "binding" in (args[2] or ()):
            raise OSError("libcudart.so.12: cannot open shared object file")
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", fail)
    told = CliRunner().invoke(cli, ["doctor", "--json"])
    assert told.exit_code == 1
    assert "libcudart.so.12" in told.stderr
    assert "-m pip install --force-reinstall" in told.stderr
    assert json.loads(told.stdout)["verdict"]["level"] == "broken"


PAIR = {"target": "a.gguf", "drafters": ["mtp"], "exactness": "exact"}


@pytest.mark.parametrize(
    ("change", "unused", "level", "says"),
    [
        ({}, False, "good", "All is well"),
        ({}, True, "improvable", "a GPU of this machine is not used"),
        ({"drafters": []}, False, "improvable", "a.gguf has no drafter"),
        ({"exactness": "approximate"}, False, "improvable", "may change the output"),
        ({"exactness": "off"}, False, "improvable", "not checked"),
    ],
)
def test_verdict_says_what_matters_most(change: dict[str, Any], unused: bool, level: str, says: str) -> None:
    found = verdict(PAIR | change, unused)
    assert found["level"] == level
    assert says in found["text"]
    assert bool(pair_steps(PAIR | change)) == (level == "improvable" and not unused)


def stored(folder: Path, name: str, role: Any = "model", draft_of: tuple[str, ...] = ()) -> store.StoredModel:
    path = folder / f"{name}.gguf"
    path.write_bytes(b"x" * 10)
    return store.StoredModel(f"a/{name}", None, (store.StoredFile(path.name, path, 10, "0"),), role, "", draft_of)


def test_pulled_models_are_named_with_their_drafters(tmp_path: Path) -> None:
    """The next step is a chat with one of them."""
    assert on_disk() == []
    big = stored(tmp_path, "big")
    small = stored(tmp_path, "small", "drafter", (big.name,))
    store.add(big)
    store.add(small)
    disk = on_disk()
    assert [(row["name"], row["drafters"], row["bytes"]) for row in disk] == [
        (big.name, [small.name], 10),
        (small.name, [], 10),
    ]
    assert model_steps(disk, [])[0].commands == (f"localspec chat -m {big.name}",)


def fits(monkeypatch: pytest.MonkeyPatch, memory: int, *devices: Device) -> dict[str, bool]:
    monkeypatch.setattr("localspec.llama.host.total_memory", lambda: memory * 2**30)
    return {row["target"]: row["fits"] for row in fitting(devices)}


def gpu(gib: int, backend: str = "CUDA") -> Device:
    return Device("GPU0", "a card", "gpu", gib * 2**30, gib * 2**30, backend)


def test_what_fits_depends_on_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU keeps matrices twice; a card has only its own memory, and a Mac's GPU the machine's."""
    assert [name for name, fit in fits(monkeypatch, 16).items() if fit][-1] == "gemma-4-e4b-qat"
    assert [name for name, fit in fits(monkeypatch, 32).items() if fit][-1] == "gemma-4-12b-qat"
    assert [name for name, fit in fits(monkeypatch, 32, gpu(24, "MTL")).items() if fit][-1] == "gemma-4-26b-a4b-qat"
    assert [name for name, fit in fits(monkeypatch, 64, gpu(8)).items() if fit][-1] == "gemma-4-e4b-qat"
    assert [name for name, fit in fits(monkeypatch, 1).items() if fit] == ["tiny"]


def test_first_model_to_get_is_the_largest_that_fits() -> None:
    """Where nothing was pulled; where none fits, the built-in pair is named."""
    rows = [{"target": n, "title": n, "download": size, "fits": fit} for n, size, fit in
            (("tiny", 0, True), ("small", 10, True), ("large", 20, False))]  # fmt: skip
    assert model_steps([], rows)[0].commands == ("localspec pull small",)
    assert model_steps([], rows[:1])[0].commands == ("localspec chat",)


def test_costs_that_were_not_measured_are_left_out() -> None:
    """Others are in milliseconds."""
    assert costs_record(None) is None
    assert costs_record(Costs(Curve((1, 4), (0.01, 0.02)))) == {
        "verify_ms": {"1": 10.0, "4": 20.0},
        "draft_token_ms": {},
    }


def test_light_until_it_runs() -> None:
    """The command's module imports nothing heavy."""
    import subprocess

    absent = "{'numpy', 'llama_cpp', 'localspec.cli.doctor.report'}"
    code = f"import sys, localspec.cli.commands.doctor; print(*{absent} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []
