#!/usr/bin/env python3
"""Compares first answers of a pair that is new on this machine with those of plain decoding.

    python -m scripts.bench.first_answers -m TARGET.gguf -d DRAFT.gguf [--rounds 7] [-t 1] [-n 64]

Each answer is a program of its own with an empty cache folder, ``localspec generate -d DRAFT`` or ``-d none`` by turns.
Printed are medians and ratios of plain decoding's time to the pair's: of the wall time from the first to the last byte
of the answer, of that from the program's start to the last byte, of the CPU time up to the last byte, and of that
between. A ratio below 1 is a loss.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

_PROMPT = "Write a Python function that reverses a string, and explain it in a few sentences."


class Answer(NamedTuple):
    """Seconds of an answer: from the first to the last byte, from the start, and of CPU for each of the two."""

    rate: float
    whole: float
    cpu: float
    whole_cpu: float


def answer(arguments: argparse.Namespace, draft: str) -> Answer:
    """Run one program, and time its answer."""
    command = [sys.executable, "-m", "localspec", "generate", "-m", arguments.model, "-d", draft, "-p", _PROMPT]
    command += ["-n", str(arguments.n), "-c", "2048", "--temp", "0"]
    command += ["-t", str(arguments.threads)] if arguments.threads else []
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "LOCALSPEC_CACHE": cache}
        began = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as process:
            assert process.stdout is not None
            marks = list[tuple[float, float]]()
            while os.read(process.stdout.fileno(), 65536):
                marks.append((time.perf_counter() - began, cpu_seconds(process.pid)))
        if process.returncode or len(marks) < 2:
            raise SystemExit(f"localspec failed: {' '.join(command)}")
    (first, cpu_first), (last, cpu_last) = marks[0], marks[-1]
    return Answer(last - first, last, cpu_last - cpu_first, cpu_last)


def cpu_seconds(pid: int) -> float:
    """CPU seconds that the threads of a process have used; Linux."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-d", "--draft", default="auto")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("-n", type=int, default=64, help="tokens of an answer")
    parser.add_argument("-t", "--threads", type=int)
    arguments = parser.parse_args()
    found = list[tuple[Answer, Answer]]()
    answer(arguments, arguments.draft)  # the page cache
    for number in range(arguments.rounds):
        turns = ("none", arguments.draft) if number % 2 else (arguments.draft, "none")
        one = {draft: answer(arguments, draft) for draft in turns}
        found.append((one["none"], one[arguments.draft]))
    print(f"{'':<28}{'plain':>8}{'pair':>8}{'ratio':>8}   ratios")
    names = ("first to last byte", "start to last byte", "CPU, first to last byte", "CPU, start to last byte")
    for i, name in enumerate(names):
        plain, pair = (statistics.median(row[side][i] for row in found) for side in (0, 1))
        ratios = [plain_one[i] / pair_one[i] for plain_one, pair_one in found]
        each = " ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"{name:<28}{plain:>8.3f}{pair:>8.3f}{statistics.median(ratios):>8.3f}   {each}", flush=True)


if __name__ == "__main__":
    main()
