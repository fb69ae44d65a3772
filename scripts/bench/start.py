#!/usr/bin/env python3
"""Measures the time from a program's start to its first token: new files, a second start, and llama-server.

    python -m scripts.bench.start --models ~/.cache/localspec-eval [--server llama-server] [--rounds 3]

Pairs: ``tiny`` alone and with its assistant, Qwen2.5-Coder 0.5B, 1.5B, and 1.5B with the 0.5B as drafter (Q4_0), those
that the folder has. *First*: nothing is remembered of the files. *Second*: the same command again. Both end with the
first byte of the answer on standard output. llama-server: from its start to the first token of a completion, which is
requested as soon as it is healthy. The page cache is warm on all sides. The three are interleaved, round by round; the
medians are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.bench.measure.servers import running

_PROMPT = "Write a Python function that reverses a string."
_SMALL, _LARGE = "qwen2.5-coder-0.5b-instruct-q4_0.gguf", "qwen2.5-coder-1.5b-instruct-q4_0.gguf"
_BUILT_IN = Path(__file__).parents[2] / "localspec/models/builtin"
#: Tokens of the contexts on both sides.
_CONTEXT = 4096
#: Tokens of an answer: the rest of it is not timed.
_TOKENS = 4


@dataclass(frozen=True)
class Start:
    """A pair to start: names for localspec, files for llama-server (None: it cannot load the pair)."""

    name: str
    target: str
    draft: str
    files: tuple[Path, Path | None] | None


def starts(folder: Path) -> list[Start]:
    """The pairs that can be measured with the files in ``folder``."""
    small, large, tiny = folder / _SMALL, folder / _LARGE, _BUILT_IN / "tiny.gguf"
    found = [Start("tiny", "tiny", "none", (tiny, None)), Start("tiny+mtp", "tiny", "auto", None)]
    if small.exists():
        found.append(Start("0.5B", str(small), "none", (small, None)))
    if large.exists():
        found.append(Start("1.5B", str(large), "none", (large, None)))
    if small.exists() and large.exists():
        found.append(Start("1.5B+0.5B", str(large), str(small), (large, small)))
    return found


def ours(start: Start, cache: str) -> float:
    """Seconds from the start of ``localspec generate`` to the first byte of its answer."""
    command = [sys.executable, "-m", "localspec", "generate", "-m", start.target, "-d", start.draft, "-p", _PROMPT]
    command += ["-n", str(_TOKENS), "-c", str(_CONTEXT), "--temp", "0"]
    began = time.perf_counter()
    environment = {**os.environ, "LOCALSPEC_CACHE": cache}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as process:
        assert process.stdout is not None
        first = process.stdout.read(1)
        seconds = time.perf_counter() - began
        process.stdout.read()
    if not first or process.returncode:
        raise SystemExit(f"localspec failed on {start.name}: {' '.join(command)}")
    return seconds


def theirs(binary: str, files: tuple[Path, Path | None]) -> float:
    """Seconds from the start of llama-server to the first token of a completion."""
    target, draft = files
    arguments = ["-m", str(target), "-c", str(_CONTEXT), *(("-md", str(draft)) if draft else ())]
    body = json.dumps({"prompt": _PROMPT, "n_predict": 1, "temperature": 0}).encode()
    began = time.perf_counter()
    with running(binary, arguments) as (address, _):
        request = urllib.request.Request(f"{address}/completion", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=300) as answer:
            answer.read()
        return time.perf_counter() - began


def rounds(start: Start, server: str | None, count: int) -> Iterator[tuple[float, float, float | None]]:
    """First start, second start and llama-server, in seconds."""
    for _ in range(count):
        with tempfile.TemporaryDirectory() as cache:
            first, second = ours(start, cache), ours(start, cache)
        peer = theirs(server, start.files) if server and start.files else None
        yield first, second, peer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path("~/.cache/localspec-eval"), help="folder of GGUF files")
    parser.add_argument("--server", default=os.environ.get("LLAMA_SERVER"), help="llama-server, else $LLAMA_SERVER")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="names of pairs")
    options = parser.parse_args()
    print(f"{'pair':<12}{'first':>8}{'second':>8}{'server':>8}{'first/server':>14}{'second/server':>15}")
    for start in starts(options.models.expanduser()):
        if options.only and start.name not in options.only:
            continue
        found = list(rounds(start, options.server, options.rounds))
        first = statistics.median(one[0] for one in found)
        second = statistics.median(one[1] for one in found)
        peers = [one[2] for one in found if one[2] is not None]
        line = f"{start.name:<12}{first:>8.2f}{second:>8.2f}"
        if peers:
            peer = statistics.median(peers)
            line += f"{peer:>8.2f}{first / peer:>14.2f}{second / peer:>15.2f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
