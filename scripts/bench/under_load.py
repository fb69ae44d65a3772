#!/usr/bin/env python3
"""Measure plain decoding while other programs are busy, with several settings of threads and spinning.

    python -m scripts.bench.under_load MODEL.gguf [--server llama-server] [--rounds 6] [--json FILE]

A process for each setting keeps the model loaded. In each round and state (0, 1 and 2 busy programs) all of them decode
the same text in turn, in random order, so that a slow minute of the machine affects all. A run ends after some seconds
or tokens. The table has the median rate of each setting, and the median over the rounds of the ratio to the best fixed
setting of the state. ``--same-session`` starts the busy programs in this session: Linux shares CPUs between sessions
first, then between the programs of each. About 5 minutes on 2 CPUs; run it alone.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from scripts.bench.measure.servers import Sampling, ask_server, server
from scripts.bench.measure.statistics import interval
from scripts.bench.measure.tables import Table

_PROMPT = 'def quicksort(items):\n    """Sort a list of numbers.'
#: A run ends after this many tokens or seconds, whichever comes first.
_TOKENS, _SECONDS = 60, 1.2
#: Tokens of a run of llama-server under load, which has no time limit.
_SERVER_TOKENS = 8
#: Seconds from the start of busy programs to the first run.
_SETTLE_S = 0.5
_DEFAULT, _ADAPTIVE, _SERVER = "before: 300000 spins", "localspec", "llama-server"
#: A busy program ends with its parent, and after two minutes.
_BUSY = """
import os, time
end, parent = time.monotonic() + 120, os.getppid()
while os.getppid() == parent and time.monotonic() < end:
    pass
"""


@dataclass
class Runs:
    """Tokens a second of each setting, by number of busy programs, in the order of the rounds."""

    rates: dict[tuple[str, int], list[float]] = field(default_factory=dict)

    def add(self, name: str, busy: int, rate: float) -> None:
        self.rates.setdefault((name, busy), []).append(rate)

    def best_fixed(self, busy: int) -> str:
        """Return the setting with the best median, without adaptation."""
        names = [name for name, state in self.rates if state == busy and name not in (_ADAPTIVE, _SERVER)]
        return max(names, key=lambda name: median(self.rates[name, busy]))

    def ratio(self, name: str, busy: int, to: str) -> str:
        """Return the median of the paired ratios, with an interval."""
        pairs = zip(self.rates[name, busy], self.rates[to, busy], strict=True)
        return str(interval([own / other for own, other in pairs]))


def settings(threads: int) -> dict[str, tuple[int | None, dict[str, str]]]:
    """Return threads (None: adaptive) and environment of each setting."""
    spins = {f"{count} spins": (threads, {"GOMP_SPINCOUNT": str(count)}) for count in (1000, 5000, 20_000, 50_000)}
    return {
        _DEFAULT: (threads, {"GOMP_SPINCOUNT": "300000"}),
        "passive": (threads, {"OMP_WAIT_POLICY": "passive"}),
        **spins,
        "1 thread less": (threads - 1, {}),
        _ADAPTIVE: (None, {}),
    }


def child(model: str, threads: int | None) -> None:
    """Load a model, then decode for each line of standard input and print tokens a second."""
    import localspec

    with localspec.load(model, "none", ctx_size=1024, threads=threads, exactness="off") as engine:
        for _ in sys.stdin:
            tokens, began, first = 0, time.perf_counter(), 0.0
            for chunk in engine.stream(_PROMPT, max_tokens=_TOKENS, temperature=0):
                tokens += len(chunk.tokens)
                first = first or time.perf_counter()
                if time.perf_counter() - began > _SECONDS and tokens > 1:
                    break
            print(json.dumps((tokens - 1) / (time.perf_counter() - first)), flush=True)


class Worker:
    """A process with a loaded model and one setting."""

    def __init__(self, model: Path, threads: int | None, environment: dict[str, str]) -> None:
        command = [sys.executable, "-m", "scripts.bench.under_load", str(model), "--child", str(threads or 0)]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "OMP_"))}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**kept, **environment}
        )
        self.rate()

    def rate(self) -> float:
        """Decode once; return tokens a second."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return float(json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def busy_programs(count: int, *, same_session: bool) -> Iterator[None]:
    """Keep ``count`` other programs busy."""
    programs = [
        subprocess.Popen([sys.executable, "-c", _BUSY], start_new_session=not same_session) for _ in range(count)
    ]
    time.sleep(_SETTLE_S)
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def measure(arguments: argparse.Namespace) -> Runs:
    """Run all settings in all states."""
    runs = Runs()
    with ExitStack() as stack:
        workers = {name: Worker(arguments.model, *given) for name, given in settings(arguments.threads).items()}
        for worker in workers.values():
            stack.callback(worker.close)
        address = None
        if arguments.server:
            flags = ["-m", str(arguments.model), "-c", "1024", "-t", str(arguments.threads)]
            address = stack.enter_context(server(arguments.server, flags))
        for i in range(arguments.rounds):
            for busy in arguments.busy:
                with busy_programs(busy, same_session=arguments.same_session):
                    for name in random.Random(f"{i} {busy}").sample(list(workers), len(workers)):
                        runs.add(name, busy, workers[name].rate())
                    if address is not None:
                        n = _SERVER_TOKENS if busy else _TOKENS
                        runs.add(_SERVER, busy, ask_server(address, range(1000, 1020), n, Sampling()).rate)
            print(f"round {i + 1} of {arguments.rounds}", file=sys.stderr)
    return runs


def table(runs: Runs, states: Sequence[int]) -> Table:
    """Return a row for each setting: its rate and its ratio to the best fixed setting, in each state."""
    best = {busy: runs.best_fixed(busy) for busy in states}
    names = [name for name in (*settings(1), _SERVER) if (name, states[0]) in runs.rates]
    rows = []
    for name in names:
        cells = [(f"{median(runs.rates[name, busy]):.1f}", runs.ratio(name, busy, best[busy])) for busy in states]
        rows.append((name, *(cell for pair in cells for cell in pair)))
    header = ("setting", *(text for busy in states for text in (f"{busy} busy, tok/s", "to best fixed")))
    note = f"localspec / {_DEFAULT}, 0 busy: {runs.ratio(_ADAPTIVE, states[0], _DEFAULT)}"
    return Table("Plain decoding beside busy programs", header, tuple(rows), note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="all threads (default: all CPUs)")
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2], help="numbers of busy programs")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--same-session", action="store_true")
    parser.add_argument("--server", help="path of llama-server")
    parser.add_argument("--json", type=Path, help="file for all rates")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        child(str(arguments.model), arguments.child or None)
        return
    runs = measure(arguments)
    print(table(runs, arguments.busy).text())
    if arguments.json:
        found: list[dict[str, Any]] = [
            {"setting": name, "busy": busy, "rates": rates} for (name, busy), rates in runs.rates.items()
        ]
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
