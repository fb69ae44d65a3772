"""Laws of what a person gets who named no model, and of what a script gets."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from localspec.cli.model import choose
from localspec.cli.model.choose import Menu
from localspec.errors import HubError
from localspec.memory.speed import MachineSpeed
from localspec.models import store
from localspec.models.recommended import GIB, RECOMMENDED
from localspec.models.resolve import TINY_ASSISTANT, TINY_TARGET
from tests.helpers.hub_server import HubServer
from tests.helpers.other_programs import Home

LITTLE = 8 * GIB
E2B = next(pair for pair in RECOMMENDED if pair.title == "Gemma 4 E2B")


@pytest.fixture
def person(program, monkeypatch, tmp_path):
    """At a terminal, on a machine of 8 GB, with nothing chosen and nothing on disk; what is fetched is remembered."""
    monkeypatch.delenv("LOCALSPEC_MODEL")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("LOCALSPEC_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("LOCALSPEC_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("localspec.cli.commands.generate._at_terminal", lambda: True)
    monkeypatch.setattr("localspec.llama.host.total_memory", lambda: LITTLE)
    monkeypatch.setattr(choose, "_machine_speed", lambda: None)
    program.fetched = []
    monkeypatch.setattr(choose, "_download", program.fetched.append)
    return program


def _asked(person, keys, *args):
    result = person("generate", "-p", "x", *args, input=keys)
    return result, [args[0] for args, _ in person.loads]


def _keep(name: str, used: float, role: store.Role = "model", folder: Path = Path()) -> None:
    path = (folder / name.replace("/", "-").replace(":", "-")).absolute()
    path.write_text("x")
    repo, _, quant = name.partition(":")
    file = store.StoredFile(path.name, path, 1, "0" * 64)
    model = store.add(store.StoredModel(repo, quant or None, (file,), role, pulled=used))
    os.utime(store._use_mark(model.path), (used, used))


# a person


def test_enter_fetches_the_recommended_pair_and_makes_it_the_default(person, tmp_path):
    result, loaded = _asked(person, "\n\n")
    assert (result.exit_code, person.fetched, loaded) == (0, [E2B.target], [E2B.target])
    assert f'model = "{E2B.target}"' in (tmp_path / "config.toml").read_text()
    assert result.stdout == "Hello there.\n"
    for part in ("8.0 GiB of memory", "Gemma 4 E2B", "2.7 GB to download", "tiny", "leave", "network"):
        assert part in result.stderr


def test_it_need_not_become_the_default(person, tmp_path):
    _, loaded = _asked(person, "1\nn\n")
    assert (loaded, (tmp_path / "config.toml").exists()) == ([E2B.target], False)


def test_models_of_other_programs_are_named(person, monkeypatch, tmp_path):
    home = Home(tmp_path / "home", monkeypatch)
    monkeypatch.setenv("LOCALSPEC_DATA", str(tmp_path / "data"))
    home.in_ollama("registry.ollama.ai/library/owl/1b")
    result, _ = _asked(person, "q\n")
    assert "On this disk already: owl:1b (Ollama)." in " ".join(result.stderr.split())


def test_speed_of_this_machine_is_told(person, monkeypatch):
    monkeypatch.setattr(choose, "_machine_speed", lambda: MachineSpeed(1e9, 5e9))
    result, loaded = _asked(person, "\n\n")
    assert "slow: about" in " ".join(result.stderr.split())
    assert loaded == [E2B.target]


@pytest.mark.parametrize("keys", ["2\n", "tiny\n", "9\nmaybe\n2\n"])
def test_tiny_needs_no_fetching(person, keys):
    assert (_asked(person, keys)[1], person.fetched) == (["tiny"], [])


def test_leaving_loads_nothing(person):
    for keys in ("q\n", "quit\n"):
        result, loaded = _asked(person, keys)
        assert (result.exit_code, result.stdout, loaded, person.fetched) == (0, "", [], [])
    result, _ = _asked(person, "")  # the end of input, or Ctrl-C
    assert (result.exit_code, result.stderr[-1:]) == (130, "\n")


def test_a_pull_that_fails_is_told_and_offers_tiny(person, monkeypatch, tmp_path):
    def fails(name):
        raise HubError("there is no network; try again when there is.")

    monkeypatch.setattr(choose, "_download", fails)
    result, loaded = _asked(person, "\n\n\n")
    assert "there is no network" in result.stderr
    assert "Which one? [2]" in result.stderr
    assert (loaded, (tmp_path / "config.toml").exists()) == (["tiny"], False)


@pytest.mark.parametrize("how", ["--offline", "HF_HUB_OFFLINE", "LOCALSPEC_OFFLINE"])
def test_offline_offers_tiny_alone(person, monkeypatch, how):
    if how[0] == "-":
        result, loaded = _asked(person, "\n", how)
    else:
        monkeypatch.setenv(how, "1")
        result, loaded = _asked(person, "\n")
    assert (loaded, "Gemma" in result.stderr) == (["tiny"], False)
    assert "offline" in result.stderr


def test_a_default_that_cannot_be_written_does_not_stop_the_chat(person, monkeypatch):
    def fails(key, value):
        raise HubError("the disk is full.")

    monkeypatch.setattr("localspec.cli.settings.keep_setting", fails)
    result, loaded = _asked(person, "\n\n")
    assert (result.exit_code, loaded) == (0, [E2B.target])
    assert "the disk is full" in result.stderr


def test_the_model_used_last_is_the_next_one_too(person, tmp_path):
    _keep("a/old:Q4_0", 100.0, folder=tmp_path)
    _keep("b/new:Q4_0", 300.0, folder=tmp_path)
    _keep("c/assistant", 900.0, "drafter", folder=tmp_path)
    result, loaded = _asked(person, "")
    assert loaded == ["b/new:Q4_0"]
    assert "b/new:Q4_0, the model used last" in result.stderr
    store.mark_used(tmp_path / "a-old-Q4_0")
    assert _asked(person, "")[1][-1] == "a/old:Q4_0"


@pytest.mark.parametrize("source", ["flag", "environment", "file"])
def test_a_chosen_model_is_not_asked_for(person, monkeypatch, tmp_path, source):
    _keep("a/last:Q4_0", 100.0, folder=tmp_path)
    (tmp_path / "mine.gguf").touch()
    mine = str(tmp_path / "mine.gguf")
    if source == "environment":
        monkeypatch.setenv("LOCALSPEC_MODEL", mine)
    elif source == "file":
        (tmp_path / "config.toml").write_text(f"model = '{mine}'\n")
    result, loaded = _asked(person, "", *(["-m", mine] if source == "flag" else []))
    assert (loaded, result.stderr) == ([mine], "")


def test_a_name_that_is_not_on_disk_is_offered_to_be_fetched(person):
    result, loaded = _asked(person, "\n", "-m", "user/repo:Q8_0")
    assert (person.fetched, loaded) == (["user/repo:Q8_0"], ["user/repo:Q8_0"])
    assert "user/repo:Q8_0 is not on disk" in result.stderr
    result, loaded = _asked(person, "n\n", "-m", "user/repo:Q8_0")
    assert (result.exit_code, len(person.fetched), len(loaded)) == (0, 1, 1)


def test_offline_offers_no_fetching_of_a_name(person):
    assert (_asked(person, "", "-m", "user/repo", "--offline")[1], person.fetched) == (["user/repo"], [])


def test_offline_is_over_when_the_command_is(person, monkeypatch):
    _asked(person, "", "-m", "user/repo", "--offline")
    assert not os.environ.get("HF_HUB_OFFLINE")


# a script


@pytest.mark.parametrize("args", [("generate", "-p", "x"), ("generate", "-p", "x", "--json"), ("chat",)])
def test_a_script_gets_tiny_and_is_told_on_standard_error(person, monkeypatch, tmp_path, args):
    _keep("a/last:Q4_0", 100.0, folder=tmp_path)
    monkeypatch.setattr("localspec.cli.commands.generate._at_terminal", lambda: args[-1] == "--json")
    result = person(*args, input="")
    assert (result.exit_code, person.loads[0][0][0], person.fetched) == (0, "tiny", [])
    assert result.stderr.startswith("localspec: no model was chosen, so this is tiny")
    assert result.stderr.count("\n") == 1


def test_a_script_that_names_tiny_is_told_nothing(person, monkeypatch):
    monkeypatch.setattr("localspec.cli.commands.generate._at_terminal", lambda: False)
    assert person("generate", "-m", "tiny", "-p", "x").stderr == ""


WATCHED = """
import sys
sys.addaudithook(lambda event, _: event in ("socket.connect", "socket.getaddrinfo") and print(event, file=sys.stderr))
from localspec.cli import main
main()
"""


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (["generate", "-m", "tiny", "-p", "x", "-n", "2"], 0, ""),
        (
            ["generate", "-m", "user/repo:Q8_0", "-p", "x", "--offline"],
            1,
            "localspec: user/repo:Q8_0 is not on disk; run `localspec pull user/repo:Q8_0` when online.\n",
        ),
    ],
)
def test_nothing_connects(args, code, told, tmp_path):
    environment = {**os.environ, "LOCALSPEC_DATA": str(tmp_path), "OMP_NUM_THREADS": "1"}
    run = [sys.executable, "-c", WATCHED, *args]
    done = subprocess.run(run, capture_output=True, text=True, check=False, env=environment, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (code, told)


# the menu


@pytest.mark.parametrize("gib", [0, 2, 8, 16, 24, 32, 64, 512])
def test_the_menu_offers_what_fits_the_best_first_and_tiny_last(gib):
    pairs = Menu.for_memory(gib * GIB).pairs
    assert [pair.needs for pair in pairs] == sorted((pair.needs for pair in pairs), reverse=True)
    assert all(pair.memory <= gib * GIB for pair in pairs)
    assert pairs[-1].built_in
    assert len(pairs) == 1 + sum(0 < pair.memory <= gib * GIB for pair in RECOMMENDED)


def test_a_machine_that_does_not_say_its_memory_is_a_small_one():
    assert Menu.for_memory(None) == Menu.for_memory(LITTLE)


@pytest.mark.parametrize("width", [24, 40, 60, 80, 200])
def test_the_menu_fits_the_terminal(monkeypatch, capsys, width):
    monkeypatch.setattr(choose, "columns", lambda _: width)
    Menu.for_memory(64 * GIB).show(64 * GIB)
    shown = capsys.readouterr().err
    assert max(map(len, shown.splitlines())) <= width
    assert "Gemma 4 26B-A4B" in shown
    assert "\x1b" not in shown


# a real terminal


@pytest.mark.skipif(os.name == "nt", reason="there is no pty there")
def test_from_nothing_to_a_chat_in_a_terminal(tmp_path):
    """The menu, a pull from a Hub on this machine, and an answer of what was pulled."""
    import pty

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    pair = Menu.for_memory(memory).pairs[0]
    if pair.built_in:
        pytest.skip("nothing but tiny fits this machine")
    with HubServer() as hub:
        hub.add(pair.repo, pair.target_file, TINY_TARGET.read_bytes())
        if pair.drafter_file:
            hub.add(pair.repo, pair.drafter_file, TINY_ASSISTANT.read_bytes())
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LOCALSPEC_", "HF_"))}
        places = {
            "LOCALSPEC_CONFIG": "config.toml",
            "LOCALSPEC_DATA": "data",
            "LOCALSPEC_CACHE": "cache",
            "HF_HOME": "hf",
        }
        environment = {
            **kept,
            **{name: str(tmp_path / place) for name, place in places.items()},
            "HF_ENDPOINT": hub.endpoint,
            "HOME": str(tmp_path),
            "TERM": "dumb",
        }
        ours, theirs = pty.openpty()
        run = [sys.executable, "-m", "localspec", "chat", "-n", "8", "-t", "1"]
        program = subprocess.Popen(run, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
        os.close(theirs)
        try:
            for until, keys in [
                ("Which one?", f"{pair.target}\n"),  # the first depends on the speed of the machine
                ("default model?", "\n"),
                ("/help", "Hello\n"),
                ("tok/s", "/exit\n"),
            ]:
                _until(ours, until.encode())
                os.write(ours, keys.encode())
            assert program.wait(60) == 0
        finally:
            program.kill()
            os.close(ours)
    assert (tmp_path / "config.toml").read_text().endswith(f'model = "{pair.target}"\n')


def _until(terminal: int, text: bytes) -> None:
    import select

    shown, end = b"", time.monotonic() + 120
    while text not in shown:
        assert time.monotonic() < end, shown
        if select.select([terminal], [], [], 1.0)[0]:
            shown += os.read(terminal, 4096)
