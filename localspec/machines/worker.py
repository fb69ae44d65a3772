"""Run a worker: ggml's RPC server in a child process, which is started again when it aborts, and SSH forwards to it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from pathlib import Path

from localspec.errors import BackendError, MissingFeatureError, UsageError
from localspec.llama.rpc import BUILD_FLAG, supports_rpc
from localspec.machines.address import DEFAULT_PORT

_CHILD = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from localspec.machines.offer import main; main()"
#: Seconds between two looks at the processes, before the first restart, and the longest pause before a later one.
_LOOK_S, _PAUSE_S, _MOST_PAUSE_S = 0.2, 1.0, 30.0
#: A process that ran for so many seconds was fine.
_FINE_S = 60.0
#: Seconds in which ssh notices that the other machine is gone.
_SSH_ALIVE = ("ServerAliveInterval=5", "ServerAliveCountMax=3", "ExitOnForwardFailure=yes", "BatchMode=yes")


@dataclass(frozen=True)
class WorkerOptions:
    """Offer of a worker, and its address. ``memory``: bytes. ``tunnel``: the machine from which it is used, for ssh."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    memory: int | None = None
    cache: str | None = None
    threads: int | None = None
    tunnel: str | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        if self.tunnel is not None and (self.tunnel.startswith("-") or not self.tunnel.strip()):
            raise UsageError(f"--tunnel {self.tunnel!r} names no machine; give USER@HOST as for ssh.")
        if self.open and not self.insecure:
            raise UsageError(
                f"{self.host} can be reached from other machines, and a worker asks for no password: whoever reaches "
                "the port can read and write its memory. Use --tunnel USER@HOST, or --insecure in a network of your "
                "own."
            )

    @property
    def open(self) -> bool:
        """True if other machines reach the address."""
        return not _address(self.host).is_loopback


def _address(host: str) -> IPv4Address:
    try:
        return IPv4Address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise UsageError(f"--host {host!r} is no IPv4 address, which is all that llama.cpp's server takes.") from None


def require_rpc() -> None:
    """Raise :class:`MissingFeatureError`, with the command that helps, if this build of llama.cpp lacks RPC."""
    if not supports_rpc():
        raise MissingFeatureError(
            "this build of llama.cpp cannot use other machines; build it again with "
            f'`CMAKE_ARGS="-D{BUILD_FLAG}=ON" {sys.executable} -m pip install --force-reinstall --no-cache-dir '
            '--no-deps "llama-cpp-python>=0.3.36,<0.4"`, or run `scripts/demo --rpc`.'
        )


def run_worker(options: WorkerOptions, started: Callable[[], None], say: Callable[[str], None]) -> None:
    """Offer this machine until an interrupt. ``started`` is called once it listens, ``say`` is told of trouble.

    Raises :class:`MissingFeatureError` without RPC, :class:`UsageError` for an address or a folder that cannot be had.
    """
    require_rpc()
    _check_port(options)
    if options.cache is not None:
        _make_folder(Path(options.cache))
    host = "127.0.0.1" if options.host == "localhost" else options.host
    server = _Kept(lambda: _start_server(options, host), "the server", say)
    kept = [server]
    if options.tunnel is not None:
        kept.append(_Kept(lambda: _start_tunnel(options, host), f"the connection to {options.tunnel}", say))
    started()
    try:
        while True:
            for process in kept:
                process.look()
            time.sleep(_LOOK_S)
    finally:
        for process in kept:
            process.end()


def _check_port(options: WorkerOptions) -> None:
    """Raise :class:`UsageError` if the port is taken."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((options.host, options.port))
        except OSError as error:
            raise UsageError(
                f"cannot listen on {options.host}:{options.port}: {error.strerror}; choose another --port."
            ) from error


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(f"--cache {path} cannot be written: {error.strerror}; choose another folder.") from error


def _start_server(options: WorkerOptions, host: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "GGML_NO_BACKTRACE": "1"}
    if options.cache is not None:
        environment["GGML_RPC_DEBUG"] = "1"  # ggml logs the sizes that the cache's files must have
    child = subprocess.Popen(
        [sys.executable, "-I", "-c", _CHILD, json.dumps(sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    with suppress(BrokenPipeError):
        print(json.dumps({**asdict(options), "host": host}), file=child.stdin, flush=True)
    return child


def _start_tunnel(options: WorkerOptions, host: str) -> subprocess.Popen[str]:
    """Forward the same port of the other machine's loopback to this worker."""
    switches = [part for option in _SSH_ALIVE for part in ("-o", option)]
    forward = f"127.0.0.1:{options.port}:{host}:{options.port}"
    try:
        return subprocess.Popen(
            ["ssh", "-N", "-T", *switches, "-R", forward, "--", str(options.tunnel)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            text=True,
        )
    except OSError as error:
        raise BackendError(f"ssh cannot be started ({error.strerror}); install an SSH client.") from error


class _Kept:
    """A process that is started again when it ends, later each time that it fails soon."""

    def __init__(self, start: Callable[[], subprocess.Popen[str]], name: str, say: Callable[[str], None]) -> None:
        self._start, self._name, self._say = start, name, say
        self._pause, self._next = _PAUSE_S, 0.0
        self._began = time.monotonic()
        self._process: subprocess.Popen[str] | None = start()

    def look(self) -> None:
        """Start the process again if it has ended and its pause is over."""
        now = time.monotonic()
        if self._process is None:
            if now >= self._next:
                self._process, self._began = self._start(), now
            return
        code = self._process.poll()
        if code is None:
            return
        self._close()
        self._pause = _PAUSE_S if now - self._began > _FINE_S else min(2 * self._pause, _MOST_PAUSE_S)
        self._next = now + self._pause
        self._say(f"{self._name} ended ({_ending(code)}); it starts again in {self._pause:.0f} s.")

    def _close(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        self._process = None

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._close()


def _ending(code: int) -> str:
    with suppress(ValueError):
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"signal {-code}"
