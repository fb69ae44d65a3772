"""Measure how much later a command starts without a network: a pulled pair, each command with and without, in turns.

python -m scripts.check.offline_start --rounds 7

A local Hub serves the built-in pair under a name like a real one's; it is pulled, and the Hub is gone. Then each
command runs as a process of its own, once as it is and once under ``unshare --net`` (a namespace with no network at
all, not even a loopback), where HF_ENDPOINT points to an address that would hang. Printed are the medians of whole
runs, of the paired differences, and whether both said the same. Linux only. Nothing here is a benchmark of the model.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

from localspec.models.resolve import TINY_ASSISTANT, TINY_TARGET  # noqa: E402
from tests.helpers.hub_server import HubServer  # noqa: E402

REPO = "user/gemma-4-E2B-it-GGUF"
MODEL = f"{REPO}:Q8_0"
#: Command, and what goes to its standard input.
COMMANDS: dict[str, tuple[list[str], str]] = {
    "generate": (["generate", "-m", MODEL, "-p", "Once", "-n", "8", "--temp", "0"], ""),
    "chat": (["chat", "-m", MODEL, "-n", "8", "--temp", "0"], "Hello\n"),
    "list": (["list", "--json"], ""),
    "doctor": (["doctor", "-m", MODEL], ""),
    "missing": (["generate", "-m", "user/absent:Q8_0", "-p", "x"], ""),
}


@dataclass(frozen=True)
class Run:
    """One process: seconds, exit code and standard output."""

    seconds: float
    code: int
    said: str


def run(arguments: list[str], text: str, environment: dict[str, str], isolated: bool) -> Run:
    command = [sys.executable, "-m", "localspec", *arguments]
    if isolated:
        command = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"]), *command]
    began = time.monotonic()
    done = subprocess.run(command, input=text, env=environment, capture_output=True, text=True, check=False)
    return Run(time.monotonic() - began, done.returncode, done.stdout)


def pulled(folder: Path) -> dict[str, str]:
    """The environment in which the pair is on disk."""
    environment = {
        **os.environ,
        "HF_HOME": str(folder / "hf"),
        "LOCALSPEC_DATA": str(folder / "data"),
        "LOCALSPEC_CACHE": str(folder / "cache"),
        "PYTHONPATH": str(ROOT),
    }
    with HubServer() as server:
        server.add(REPO, "gemma-4-E2B-it-Q8_0.gguf", TINY_TARGET.read_bytes())
        server.add(REPO, "mtp-gemma-4-E2B-it-Q8_0.gguf", TINY_ASSISTANT.read_bytes())
        done = run(["pull", REPO], "", {**environment, "HF_ENDPOINT": server.endpoint}, False)
    if done.code:
        raise SystemExit("the pull failed")
    return {**environment, "HF_ENDPOINT": "http://192.0.2.1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    if shutil.which("unshare") is None:
        raise SystemExit("this needs unshare, of util-linux.")
    with tempfile.TemporaryDirectory() as name:
        environment = pulled(Path(name))
        for label, (arguments, text) in COMMANDS.items():
            run(arguments, text, environment, False)  # what is measured once is remembered
            pairs = [
                (run(arguments, text, environment, False), run(arguments, text, environment, True))
                for _ in range(options.rounds)
            ]
            later = statistics.median(alone.seconds - online.seconds for online, alone in pairs)
            fields = {
                "command": label,
                "online_s": round(statistics.median(online.seconds for online, _ in pairs), 3),
                "offline_s": round(statistics.median(alone.seconds for _, alone in pairs), 3),
                "later_s": round(later, 3),
                "codes": sorted({run.code for pair in pairs for run in pair}),
                "same": label in ("doctor", "list") or len({run.said for pair in pairs for run in pair}) == 1,
            }
            print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    main()
