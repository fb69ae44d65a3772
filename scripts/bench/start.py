#!/usr/bin/env python3
"""Measures the time from a program's start to its first token: new files, a second start, and llama-server.

    python -m scripts.bench.start --models ~/.cache/localspec-eval --server llama-server [--rounds 3] [--cold] [--busy]

Pairs: ``tiny`` alone and with its assistant, Qwen2.5-Coder 0.5B, 1.5B, and 1.5B with the 0.5B as drafter (Q4_0), named
and found, those that the folder has. *First*: nothing is remembered of the files. *Second*: the same command again.
Both end with the first byte of the answer on standard output. llama-server: from its start to the first token of a chat
completion of the same message, which is requested as soon as it is healthy. Both sides read the model's own chat
template. The page cache is warm on all sides, or with ``--cold`` holds nothing of the models' files. ``--busy``: beside
a program that keeps one CPU busy. The three are interleaved, round by round; the medians are compared. Each follows
another start of the same pair at once: a virtual machine may return free memory to its host, and 1 GB of it then costs
up to 2 s.
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
from contextlib import contextmanager, nullcontext
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
        found.append(Start("1.5B auto", str(large), "auto", (large, small)))
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
    body = json.dumps({"messages": [{"role": "user", "content": _PROMPT}], "max_tokens": 1, "temperature": 0}).encode()
    began = time.perf_counter()
    with running(binary, arguments) as (address, _):
        request = urllib.request.Request(f"{address}/v1/chat/completions", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=300) as answer:
            answer.read()
        return time.perf_counter() - began


def forget(files: tuple[Path, Path | None]) -> None:
    """Remove the files from the page cache."""
    for path in filter(None, files):
        with path.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def busy() -> Iterator[None]:
    """A program of another session that keeps one CPU busy."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True) as process:
        try:
            yield
        finally:
            process.kill()


def rounds(start: Start, server: str | None, count: int, *, cold: bool) -> Iterator[tuple[float, float, float | None]]:
    """First start, second start and llama-server, in seconds."""
    for _ in range(count):
        times = list[float]()
        with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryDirectory() as other:
            ours(start, other)
            for _ in range(2):
                if cold and start.files:
                    forget(start.files)
                times.append(ours(start, cache))
            ours(start, cache)
        if cold and start.files:
            forget(start.files)
        yield times[0], times[1], theirs(server, start.files) if server and start.files else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path("~/.cache/localspec-eval"), help="folder of GGUF files")
    parser.add_argument("--server", default=os.environ.get("LLAMA_SERVER"), help="llama-server, else $LLAMA_SERVER")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cold", action="store_true", help="remove the models from the page cache before each start")
    parser.add_argument("--busy", action="store_true", help="beside a program that keeps one CPU busy")
    parser.add_argument("--only", nargs="*", help="names of pairs")
    options = parser.parse_args()
    print(f"{'pair':<12}{'first':>8}{'second':>8}{'server':>8}{'first/server':>14}{'second/server':>15}")
    chosen = [one for one in starts(options.models.expanduser()) if not options.only or one.name in options.only]
    with busy() if options.busy else nullcontext():
        for start in chosen:
            report(start, list(rounds(start, options.server, options.rounds, cold=options.cold)))


def report(start: Start, found: list[tuple[float, float, float | None]]) -> None:
    """Print the medians of a pair."""
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
