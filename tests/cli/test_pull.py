"""Laws of ``localspec pull``: its output, its error messages, and that the same command resumes a pull."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from localspec.cli import cli
from localspec.cli.terminal.transfer import Transfer, TransferBar
from localspec.cli.terminal.units import duration_text
from localspec.models import store
from localspec.models.hub import remote
from localspec.models.hub.names import HubName
from localspec.models.resolve import TINY_ASSISTANT, TINY_TARGET
from tests.helpers import tiny_checkpoint
from tests.helpers.hub_fixtures import cache, server  # noqa: F401 - fixtures
from tests.helpers.hub_server import Fault, HubServer
from tests.helpers.socks_proxy import socks_proxy

REPO = "user/gemma-4-E2B-it-GGUF"
TARGET, DRAFTER = "gemma-4-E2B-it-Q8_0.gguf", "mtp-gemma-4-E2B-it-Q8_0.gguf"
GOOGLE = "google/gemma-4-E2B-it-assistant"

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two attempts, at once."""
    patience = remote.RetryPolicy(attempts=2, timeout_s=10.0, sleep=lambda seconds: None)
    monkeypatch.setattr(remote, "RetryPolicy", lambda: patience)


@pytest.fixture
def pair(server: HubServer) -> HubServer:  # noqa: F811
    """The built-in pair, under names that look like a real one's."""
    server.add(REPO, TARGET, TINY_TARGET.read_bytes())
    server.add(REPO, DRAFTER, TINY_ASSISTANT.read_bytes())
    return server


def run(*args: str, **rest: object) -> Result:
    return CliRunner().invoke(cli, ["pull", *args], **rest)  # type: ignore[arg-type]


def sentences(result: Result) -> str:
    """One sentence and no traceback."""
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


def test_pair_is_pulled_in_one_command(pair: HubServer) -> None:
    """Progress and the next command go to standard error; standard output stays empty."""
    result = run(REPO)
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    assert result.stderr.splitlines() == [
        f"Fetching {TARGET} (3 MB).",
        *[line for line in result.stderr.splitlines() if re.match(rf"{TARGET}: 3 MB in .*, hash verified", line)],
        f"Fetching {DRAFTER} (854 kB).",
        *[line for line in result.stderr.splitlines() if re.match(rf"{DRAFTER}: 854 kB in .*, hash verified", line)],
        f"Drafter: {REPO}/{DRAFTER} (854 kB).",
        f"On disk: {REPO}:Q8_0 (3 MB). Next: localspec chat -m {REPO}:Q8_0.",
    ]
    assert len(result.stderr.splitlines()) == 6


def test_json_is_one_object(pair: HubServer) -> None:
    """Names and paths of what is on disk now."""
    result = run(REPO, "--json")
    found = json.loads(result.stdout)
    assert (found["model"]["name"], found["drafter"]["name"]) == (f"{REPO}:Q8_0", f"{REPO}/{DRAFTER}")
    assert Path(found["model"]["path"]).read_bytes() == TINY_TARGET.read_bytes()
    assert json.loads(run(REPO, "--json", "-d", "none").stdout)["drafter"] is None


def test_pulled_pair_generates_as_the_built_in_one(pair: HubServer) -> None:
    """By its name, with its drafter, and with the network gone."""
    import localspec

    assert run(REPO).exit_code == 0
    pair.close()
    with localspec.load("tiny", threads=1, exactness="off") as llm:
        wanted = llm.generate("Once", max_tokens=12, temperature=0).tokens
    for draft in ("auto", f"{REPO}/{DRAFTER}", REPO):
        with localspec.load(f"{REPO}:Q8_0", draft, threads=1, exactness="off") as llm:
            assert "mtp" in llm.drafters
            assert llm.generate("Once", max_tokens=12, temperature=0).tokens == wanted


@pytest.mark.parametrize("args", [("--offline",), ()])
def test_offline_is_one_sentence(pair: HubServer, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]) -> None:
    """For a model that is not on disk; no request is sent."""
    if not args:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = run(REPO, *args)
    assert result.exit_code == 1
    assert re.search(rf"localspec is offline.*{REPO} is not on disk; run `localspec pull {REPO}`", sentences(result))
    assert pair.requests == []
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert run(REPO).exit_code == 0
    before = len(pair.requests)
    result = run(REPO, "--offline")
    assert (result.exit_code, len(pair.requests)) == (0, before)
    assert "is on disk" in sentences(result)


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("tiny", 0, "built in; there is nothing to pull"),
        ("model.gguf", 2, "'model.gguf' is no name on the Hub; give user/repo:QUANT"),
        ("./folder", 2, "is no name on the Hub"),
        ("https://example.org/x", 1, "no address of the Hub"),
        ("user/none", 1, "the Hub has no model user/none that you may see"),
        (f"{REPO}:Q2_K", 1, "has no quant Q2_K. It has Q8_0 (3 MB)"),
    ],
)
def test_name_that_means_nothing_is_one_sentence(pair: HubServer, name: str, code: int, says: str) -> None:
    """With the next step."""
    result = run(name)
    assert result.exit_code == code
    assert says in sentences(result)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(status=503), "it answers 503, 2 times in a row; check the network or wait, then run the same command"),
        (Fault(status=429, headers={"Retry-After": "900"}), "the Hub asks to wait 900 s"),
        (Fault(cut_after=100_000, ignores_range=True), "the connection was cut, 2 times in a row"),
        (Fault(content=b"?" * 3_342_176), "is not what was promised: its hash is"),
    ],
)
def test_trouble_is_one_sentence(pair: HubServer, fault: Fault, says: str) -> None:
    """The model is not listed afterwards."""
    pair.always("cdn", TARGET, fault)
    result = run(REPO)
    assert result.exit_code == 1
    assert says in sentences(result)
    assert store.stored_models() == []


def test_licence_to_accept_is_one_sentence(pair: HubServer) -> None:
    """With the page and the command."""
    pair.repositories[REPO].gated = True
    result = run(REPO)
    assert result.exit_code == 1
    assert f"accept it at {pair.endpoint}/{REPO}, log in with `hf auth login`" in sentences(result)


def test_full_disk_is_one_sentence(pair: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is fetched."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(0, 0, 2_000_000))
    result = run(REPO)
    assert result.exit_code == 1
    assert "needs 4 MB more" in sentences(result)
    assert "has 2 MB free" in sentences(result)


def test_checkpoint_is_offered_with_the_command(pair: HubServer) -> None:
    """Without a terminal, where no question is possible."""
    del pair.repositories[REPO].files[DRAFTER]
    pair.add(GOOGLE, "model.safetensors", b"1")
    result = run(REPO)
    assert result.exit_code == 0
    assert f"only as a checkpoint ({GOOGLE})" in result.stderr
    assert f"`localspec pull {REPO} --convert`" in result.stderr
    assert not pair.seen("resolve", "model.safetensors")


@pytest.mark.parametrize(("draft", "told"), [("auto", True), ("none", False)])
def test_missing_drafter_is_told(pair: HubServer, draft: str, told: bool) -> None:
    """Unless none was requested."""
    del pair.repositories[REPO].files[DRAFTER]
    assert ("No drafter is known for it" in run(REPO, "-d", draft).stderr) == told


def test_checkpoint_is_converted(server: HubServer, tmp_path: Path) -> None:  # noqa: F811
    """With the real converter; the drafter is then found, drafts, and is not fetched again."""
    import gguf_convert
    import localspec

    for name, config in (("it", None), ("it-assistant", tiny_checkpoint.assistant_config())):
        tiny_checkpoint.write(tmp_path / name, *([config] if config else []))
    gguf_convert.convert(tmp_path / "it", tmp_path / TARGET, "Q8_0")
    server.add(REPO, TARGET, (tmp_path / TARGET).read_bytes())
    for path in (tmp_path / "it-assistant").iterdir():
        server.add(GOOGLE, path.name, path.read_bytes(), lfs=path.suffix == ".safetensors")
    result = run(REPO, "--convert", "--type", "q8_0", "--json")
    assert result.exit_code == 0, result.stderr
    drafter = json.loads(result.stdout)["drafter"]
    assert drafter["name"] == f"{GOOGLE}/mtp-gemma-4-E2B-it-assistant-Q8_0.gguf"
    before = len(server.seen("resolve"))
    assert json.loads(run(REPO, "--json").stdout)["drafter"] == drafter
    assert len(server.seen("resolve")) == before
    with localspec.load(REPO, drafter["name"], threads=1, exactness="off") as llm:
        assert "mtp" in llm.drafters
        assert len(llm.generate("hello", max_tokens=4, temperature=0).tokens) > 0


def test_pull_goes_through_a_socks_proxy(pair: HubServer, tmp_path: Path) -> None:
    """Where the environment names one; in a process of its own, which reads the environment afresh."""
    with socks_proxy() as (address, hosts):
        environment = {
            **os.environ, "HF_ENDPOINT": pair.endpoint, "HF_HOME": str(tmp_path / "hf"),
            "LOCALSPEC_DATA": str(tmp_path / "data"), "ALL_PROXY": address, "NO_PROXY": "", "no_proxy": "",
        }  # fmt: skip
        command = [sys.executable, "-m", "localspec", "pull", REPO]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"Drafter: {REPO}/{DRAFTER}" in done.stderr
    assert hosts


def test_interrupted_pull_says_how_it_goes_on(pair: HubServer, tmp_path: Path) -> None:
    """Ctrl-C in a process of its own: 130, a sentence, no traceback; the same command then sends only the rest."""
    pair.rate = 1e6
    environment = {
        **os.environ, "HF_ENDPOINT": pair.endpoint, "HF_HOME": str(tmp_path / "hf"),
        "LOCALSPEC_DATA": str(tmp_path / "data"),
    }  # fmt: skip
    command = [sys.executable, "-m", "localspec", "pull", REPO]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def interrupt() -> None:
        while not pair.seen("cdn"):
            time.sleep(0.02)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    out, errors = process.communicate(timeout=60)
    thread.join()
    assert (process.returncode, out) == (130, "")
    assert errors.strip().splitlines()[-1] == "Interrupted. The same command goes on where this one stopped."
    assert "Traceback" not in errors
    pair.rate = None
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "already on disk" in done.stderr
    assert (pair.seen("cdn", TARGET)[-1].range or "").startswith("bytes=")


# The screen.


@pytest.mark.parametrize("room", [39, 59, 79, 119])
@pytest.mark.parametrize("name", ["m.gguf", "gemma-4-26B-A4B-it-UD-Q4_K_XL-00001-of-00002.gguf"])
def test_bar_fits_its_terminal(room: int, name: str) -> None:
    """It has the share, the rate and the time left at any width from 40 columns on."""
    bar = TransferBar(name, 3_000_000_000, 1_000_000_000, sys.stderr)
    bar._points.appendleft((time.monotonic() - 10.0, 0))
    bar._done = 1_500_000_000
    line = bar._line(room)
    assert len(line) <= room
    assert "50%" in line
    assert "150 MB/s" in line
    assert "10 s left" in line
    assert (" of 3.0 GB" in line) == (room >= 60)
    assert line.startswith(name[:4])


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (60, "1:00"), (185, "3:05"), (7800, "2:10:00")]
)
def test_duration_reads_as_people_say_it(seconds: float, text: str) -> None:
    """Seconds, minutes, hours."""
    assert duration_text(seconds) == text


def test_note_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """On standard error, with a capital and a full stop."""
    Transfer(sys.stderr).note("it answers 503; trying again in 2 s")
    assert capsys.readouterr().err == "It answers 503; trying again in 2 s.\n"


def test_the_projector_comes_with_the_model_and_goes_with_it(pair: HubServer) -> None:
    """F16 before Q8_0; list names it, rm removes it with its model, --no-media leaves it on the Hub."""
    for quant in ("Q8_0", "F16", "F32"):
        pair.add(REPO, f"mmproj-gemma-4-E2B-it-{quant}.gguf", f"projector {quant}".encode())
    assert json.loads(run(REPO, "--json", "--no-media").stdout)["projector"] is None
    result = run(REPO, "--json")
    name = f"{REPO}/mmproj-gemma-4-E2B-it-F16.gguf"
    assert json.loads(result.stdout)["projector"]["name"] == name
    assert f"Projector: {name} (0 kB)." in result.stderr.splitlines()
    listed = CliRunner().invoke(cli, ["list", "--json"]).stdout
    rows = {row["name"]: row for row in json.loads(listed)["models"]}
    assert rows[name]["role"] == "projector"
    assert (rows[f"{REPO}:Q8_0"]["projector"], rows[name]["projector"]) == (name, None)
    assert "  a projector" in CliRunner().invoke(cli, ["list"]).stdout.splitlines()
    assert store.locate(HubName(REPO)).name == TARGET
    removed = CliRunner().invoke(cli, ["rm", f"{REPO}:Q8_0", "--yes"])
    assert f"  {name}" in removed.stderr.splitlines()
    assert store.stored_models() == []
