"""Machines and links to play with: namespaces, workers in them, links that can be cut."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from localspec.errors import WorkerError
from localspec.machines.address import Address
from localspec.machines.probe import probe

#: Seconds in which a worker starts on a busy machine.
_START_S = 60.0


@dataclass
class Machine:
    """A worker in a namespace of its own, behind a link. ``number`` is its own on this machine, 1 to 254.

    ``delay_ms``: round trip. ``flags``: more options of ``localspec worker``.
    """

    number: int
    delay_ms: float = 0.2
    mbit: float = 1000.0
    flags: tuple[str, ...] = ("-t", "1")
    _link: subprocess.Popen[str] | None = None
    _worker: subprocess.Popen[str] | None = field(default=None)

    @property
    def name(self) -> str:
        return f"lsw{self.number}"

    @property
    def address(self) -> Address:
        return Address(f"10.77.{self.number}.2")

    def start(self) -> None:
        self.end()
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        subprocess.run(["ip", "netns", "exec", self.name, "ip", "link", "set", "lo", "up"], check=True)
        arguments = [self.name, str(self.number), str(self.delay_ms), str(self.mbit)]
        self._link = subprocess.Popen(
            [sys.executable, "-m", "scripts.check.machines.link", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._link.stdout is not None
        assert self._link.stdout.readline() == "up\n"
        self.start_worker()

    def start_worker(self) -> None:
        """Start the worker, and wait until it answers."""
        program = [sys.executable, "-m", "localspec", "worker", "--host", self.address.host, "--insecure", *self.flags]
        self._worker = subprocess.Popen(
            ["ip", "netns", "exec", self.name, *program],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.await_worker()

    def await_worker(self) -> None:
        until = time.monotonic() + _START_S
        while True:
            try:
                probe(self.address, measured=False)
                return
            except WorkerError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def kill_worker(self) -> None:
        """Kill the process: nothing is closed in order."""
        if self._worker is not None:
            children = subprocess.run(
                ["pgrep", "-P", str(self._worker.pid)], capture_output=True, text=True, check=False
            )
            self._worker.kill()
            self._worker.wait()
            for child in children.stdout.split():
                with suppress(ProcessLookupError):
                    subprocess.run(["kill", "-9", child], check=False, stderr=subprocess.DEVNULL)

    def cut(self, is_cut: bool = True) -> None:
        assert self._link is not None
        assert self._link.stdin is not None
        self._link.stdin.write("cut\n" if is_cut else "mend\n")
        self._link.stdin.flush()

    def end(self) -> None:
        self.kill_worker()
        if self._link is not None:
            self._link.kill()
            self._link.wait()
        subprocess.run(["ip", "netns", "del", self.name], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["ip", "link", "del", f"lsh{self.number}"], check=False, stderr=subprocess.DEVNULL)


@contextmanager
def started(*machines: Machine) -> Iterator[tuple[Machine, ...]]:
    """Start the machines within the block."""
    try:
        for machine in machines:
            machine.start()
        yield machines
    finally:
        for machine in machines:
            machine.end()
