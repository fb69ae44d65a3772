"""Laws of the worker: nothing is open by accident, and a cache holds whole tensors only."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from localspec.cli import cli
from localspec.errors import MissingFeatureError, UsageError
from localspec.llama.rpc import supports_rpc
from localspec.machines import worker
from localspec.machines.offer import CacheLog, drop_partial
from localspec.machines.worker import WorkerOptions, run_worker

LACKS_RPC = not supports_rpc()


def test_loopback_unless_asked() -> None:
    """Another address needs a word, and is told to be open."""
    assert not WorkerOptions().open
    assert not WorkerOptions(host="localhost").open
    with pytest.raises(UsageError, match="asks for no password"):
        WorkerOptions(host="0.0.0.0")
    assert WorkerOptions(host="0.0.0.0", insecure=True).open


@pytest.mark.parametrize("host", ["::1", "example.org", ""])
def test_only_ipv4(host: str) -> None:
    """As ggml's server."""
    with pytest.raises(UsageError, match="IPv4"):
        WorkerOptions(host=host)


@pytest.mark.parametrize("machine", ["-oProxyCommand=x", " "])
def test_a_tunnel_needs_a_machine(machine: str) -> None:
    """And is no option of ssh."""
    with pytest.raises(UsageError, match="--tunnel"):
        WorkerOptions(tunnel=machine)


@pytest.mark.skipif(not LACKS_RPC, reason="this build has RPC")
def test_a_build_without_rpc_names_the_command() -> None:
    """That builds it again."""
    with pytest.raises(MissingFeatureError, match='CMAKE_ARGS="-DGGML_RPC=ON"'):
        run_worker(WorkerOptions(), lambda: None, print)


def test_an_open_worker_says_what_that_means(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it starts."""
    monkeypatch.setattr(worker, "run_worker", lambda options, started, say: started())
    done = CliRunner().invoke(cli, ["worker", "--host", "0.0.0.0", "--insecure"])
    assert "there is no password and no encryption" in done.stderr
    assert f"with: --rpc {socket.gethostname()}:50052" in done.stderr
    done = CliRunner().invoke(cli, ["worker", "--port", "50070", "--tunnel", "me@desktop"])
    assert "on desktop with: --rpc 127.0.0.1:50070" in done.stderr


def test_a_taken_port_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a sentence that names the option."""
    monkeypatch.setattr(worker, "supports_rpc", lambda: True)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UsageError, match="choose another --port"):
        run_worker(WorkerOptions(port=taken.getsockname()[1]), lambda: None, print)


def test_a_folder_that_cannot_be_written_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before the server starts."""
    monkeypatch.setattr(worker, "supports_rpc", lambda: True)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="--cache"):
        run_worker(WorkerOptions(port=_free_port(), cache=str(tmp_path / "file" / "below")), lambda: None, print)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def test_a_process_that_ends_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a pause, and that is told; all end with the worker."""
    started, said = [], list[str]()

    def start(*_: object) -> subprocess.Popen[str]:
        code = "import os; os.abort()" if not started else "import time; time.sleep(60)"
        started.append(subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, text=True))
        return started[-1]

    def pause(_: float) -> None:
        if len(started) > 1:
            raise KeyboardInterrupt

    for name, value in {"supports_rpc": lambda: True, "_start_server": start, "_PAUSE_S": 0.0}.items():
        monkeypatch.setattr(worker, name, value)
    monkeypatch.setattr(worker.time, "sleep", pause)
    with pytest.raises(KeyboardInterrupt):
        run_worker(WorkerOptions(port=_free_port()), lambda: None, said.append)
    assert len(said) == 1
    assert "SIGABRT" in said[0]
    assert started[-1].wait() != 0


def test_a_tensor_that_was_cut_off_is_not_kept(tmp_path: Path) -> None:
    """A full disk leaves its beginning, which ggml would take for the whole."""
    whole, cut = tmp_path / "00aa", tmp_path / "00bb"
    whole.write_bytes(bytes(100))
    cut.write_bytes(bytes(60))
    log = CacheLog()
    for path in (whole, cut):
        log.line("[set_tensor] buffer: 0x1, data: 0x2, offset: 0, size: 100")
        log.line(f"[set_tensor] saved to '{path}'")
    assert whole.exists()
    assert not cut.exists()


def test_a_tensor_whose_writing_was_killed_is_dropped(tmp_path: Path) -> None:
    """Only files that were seen to be whole are kept at the next start."""
    whole, unknown = tmp_path / "00aa", tmp_path / "00bb"
    for path in (whole, unknown):
        path.write_bytes(bytes(100))
    log = CacheLog()
    log.line("[set_tensor] buffer: 0x1, data: 0x2, offset: 0, size: 100")
    log.line(f"[set_tensor] saved to '{whole}'")
    drop_partial(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["00aa"]
