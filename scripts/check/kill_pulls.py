"""Pulls killed by SIGKILL at random moments and resumed: does every one end right, and is never a broken file listed?

    nice python -m scripts.check.kill_pulls --pulls 100

A local Hub (tests/helpers/hub_server.py) serves a target in two parts and its drafter, throttled. Each pull is the real
command line in a process of its own, killed at a moment drawn uniformly from the length of an undisturbed pull, up to
three times; then it runs to its end. After every kill and at the end, whatever is listed has the right hashes, and so
has whatever a name in the cache leads to. At the end all is listed, and nothing unfinished is left.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

from localspec.models import remove as removing  # noqa: E402
from localspec.models import store  # noqa: E402
from tests.helpers.hub_server import HubServer  # noqa: E402

REPO = "user/killed-GGUF"
_PARTS = {
    "big-Q4_0-00001-of-00002.gguf": 1_500_000,
    "big-Q4_0-00002-of-00002.gguf": 900_000,
    "mtp-big-Q8_0.gguf": 400_000,
}


@dataclass
class Tally:
    """Counts of the pulls by outcome."""

    pulls: int = 0
    kills: int = 0
    kept: int = 0
    """Kills after which something unfinished was left to go on from."""
    resumed: int = 0
    """Requests that began in the middle of a file."""
    faults: list[str] = field(default_factory=list)


class Bench:
    """One Hub, one folder, many pulls."""

    def __init__(self, folder: Path, server: HubServer, seed: int) -> None:
        self.folder, self.server, self.random = folder, server, random.Random(seed)
        for name, size in _PARTS.items():
            server.add(REPO, name, self.random.randbytes(size))
        self.hashes = {name: blob.sha256 for name, blob in server.repositories[REPO].files.items()}
        self.environment = {
            **os.environ,
            "HF_ENDPOINT": server.endpoint,
            "HF_HOME": str(folder / "hf"),
            "LOCALSPEC_DATA": str(folder / "data"),
            "LOCALSPEC_CACHE": str(folder / "cache"),
            "PYTHONPATH": str(ROOT),
        }
        os.environ["LOCALSPEC_DATA"] = self.environment["LOCALSPEC_DATA"]

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "localspec", "pull", REPO]
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=self.folder
        )

    def clear(self) -> None:
        for name in ("hf", "data"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def undisturbed(self) -> float:
        """Seconds of a whole pull."""
        self.clear()
        began = time.monotonic()
        process = self.start()
        _, errors = process.communicate()
        if process.returncode:
            raise SystemExit(f"an undisturbed pull failed: {errors.decode()}")
        return time.monotonic() - began

    def pull(self, length: float, tally: Tally) -> None:
        """One pull, killed some times and then let go."""
        self.clear()
        before = len(self.server.seen("cdn"))
        for _ in range(self.random.randint(1, 3)):
            process = self.start()
            try:
                process.wait(self.random.uniform(0.0, length))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                tally.kills += 1
            process.communicate()
            tally.faults += self.broken()
            tally.kept += bool(removing.unfinished())
        process = self.start()
        _, errors = process.communicate()
        if process.returncode:
            tally.faults.append(f"the last pull failed: {errors.decode()}")
        tally.faults += self.broken() + self.unfinished()
        tally.resumed += sum(request.range is not None for request in self.server.seen("cdn")[before:])
        tally.pulls += 1

    def broken(self) -> list[str]:
        """List the models and cached files whose content is wrong."""
        listed = [file.path for model in store.stored_models() for file in model.files]
        named = (self.folder / "hf").rglob("snapshots/*/*")
        return [f"{path} is broken" for path in {*listed, *named} if _hash(path) != self.hashes[path.name]]

    def unfinished(self) -> list[str]:
        """List files that a finished pull left over or lacks."""
        names = {file.name for model in store.stored_models() for file in model.files}
        faults = [f"{name} is not listed" for name in self.hashes if name not in names]
        return faults + [f"{path} is left" for path in (self.folder / "hf").rglob("*.incomplete")]


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "nothing"


def run(pulls: int, seed: int, rate: float) -> Tally:
    """Start ``pulls`` pulls and kill each."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder, HubServer(rate) as server:
        bench = Bench(Path(folder), server, seed)
        length = bench.undisturbed()
        for _ in range(pulls):
            bench.pull(length, tally)
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pulls", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=2e6, help="Bytes per second of each file.")
    options = parser.parse_args()
    tally = run(options.pulls, options.seed, options.rate)
    print(
        f"{tally.pulls} pulls, killed {tally.kills} times ({tally.kept} times with a part of a file left), "
        f"{tally.resumed} downloads went on in the middle; {len(tally.faults)} faults"
    )
    for fault in tally.faults:
        print(f"  {fault}")
    sys.exit(1 if tally.faults else 0)


if __name__ == "__main__":
    main()
