#!/usr/bin/env python3
"""Times `localspec serve` and other servers with several streams over HTTP, on the same files, threads and prompts.

    python -m scripts.bench.serve_peers --server llama-server -m TARGET.gguf --streams 1 2 4 8 --out FILE.jsonl
    python -m scripts.bench.serve_peers --out FILE.jsonl --report

A round starts each server with room for so many streams, lets it answer a prompt that is not measured, then the prompts
of one category after the other, and ends it. The order of the servers rotates. A stream that is finished takes the next
prompt. ``--ours`` is what to add to localspec's command line, ``--peer`` to llama-server's, ``--python`` an interpreter
that has llama-cpp-python's server, which answers one request after the other. Answers are greedy. Results are appended
to ``--out``; ``--report`` prints the tables of what is there. Texts are compared with those of the same mode and
prompt at one stream. Before the first round ``localspec tune`` measures what a server measures between its first
answers, which are slower; ``--cold`` leaves that out. Measure on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from localspec.bench.prompts import BenchPrompt, read_prompts
from scripts.bench.measure.http_streams import Answer, ask_all
from scripts.bench.measure.machine import about, busy
from scripts.bench.measure.prompts import WARM_UP
from scripts.bench.measure.servers import PEER_SETS, Sampling, listening, peer_name
from scripts.bench.measure.tables import Table

PATH = "/v1/chat/completions"
_OURS, _PEER, _PYTHON = "localspec", "llama-server", "llama-cpp-python"


@dataclass(frozen=True)
class Mode:
    """A server. ``command`` starts it on a port, with room for so many streams."""

    name: str
    command: Callable[[int, int], Sequence[str]]
    ready: str = "/health"
    more: dict[str, Any] = field(default_factory=dict)

    def body(self, prompt: BenchPrompt, n: int) -> dict[str, Any]:
        """Return a request for at most ``n`` tokens."""
        asked = {"messages": list(prompt.messages), "max_tokens": n, "temperature": 0, "stream": True}
        return {**asked, "stream_options": {"include_usage": True}, **self.more}


def modes_of(arguments: argparse.Namespace) -> list[Mode]:
    """Return the servers to compare."""
    model, ctx, threads = arguments.model, arguments.ctx, str(arguments.threads)

    def ours(flags: str) -> Mode:
        fixed = [sys.executable, "-m", "localspec", "serve", "-m", model, "-c", str(ctx), "-t", threads]
        return Mode(
            f"{_OURS} {flags}",
            lambda port, n: [*fixed, "--parallel", str(n), "--port", str(port), *shlex.split(flags)],
        )

    def peer(flags: str) -> Mode:
        fixed = [arguments.server, "-m", model, "-t", threads, "--host", "127.0.0.1", *shlex.split(flags)]
        fixed += ["-md", arguments.draft, "-td", threads] if "draft" in flags else []
        return Mode(
            f"{_PEER} {peer_name(flags)}",
            lambda port, n: [*fixed, "-np", str(n), "-c", str(ctx * n), "--port", str(port)],
            more=Sampling().for_server(),
        )

    def python(flags: str) -> Mode:
        fixed = [arguments.python, "-m", "llama_cpp.server", "--model", model, "--n_ctx", str(ctx)]
        fixed += ["--n_threads", threads, "--n_threads_batch", threads, "--interrupt_requests", "false"]
        return Mode(
            f"{_PYTHON} {flags}".strip(),
            lambda port, n: [*fixed, *shlex.split(flags), "--port", str(port)],
            "/v1/models",
        )

    flags = [*(PEER_SETS[arguments.peer_set].values() if arguments.peer_set else ()), *arguments.peer]
    return [*map(ours, arguments.ours), *map(peer, flags), *([python("")] if arguments.python else [])]


def chosen(arguments: argparse.Namespace, streams: int) -> dict[str, list[BenchPrompt]]:
    """Return the prompts of each category: as many as there are streams, at least ``--per-category``."""
    found: dict[str, list[BenchPrompt]] = {}
    for prompt in read_prompts(arguments.prompts):
        if not arguments.category or prompt.category in arguments.category:
            found.setdefault(prompt.category, []).append(prompt)
    return {category: prompts[: max(streams, arguments.per_category)] for category, prompts in found.items()}


def run(arguments: argparse.Namespace, mode: Mode, streams: int, turn: int) -> Iterable[dict[str, Any]]:
    """Yield the record of each category."""
    warm_up = BenchPrompt("warm-up", "warm-up", ({"role": "user", "content": WARM_UP},))
    with listening(lambda port: mode.command(port, streams), mode.ready) as (port, _):
        ask_all(port, PATH, [mode.body(warm_up, arguments.n)] * streams, streams)
        for category, prompts in chosen(arguments, streams).items():
            bodies = [mode.body(prompt, arguments.n) for prompt in prompts]
            answers, seconds = ask_all(port, PATH, bodies, streams)
            one = {"mode": mode.name, "streams": streams, "turn": turn, "category": category, "seconds": seconds}
            yield {**one, "answers": [_record(mode, *pair) for pair in zip(prompts, answers, strict=True)]}


def _record(mode: Mode, prompt: BenchPrompt, answer: Answer) -> dict[str, Any]:
    gaps = answer.gaps or [0.0]
    end = int(answer.ended and not mode.name.startswith(_PEER))  # llama-server counts the end token
    return {
        "id": prompt.id, "tokens": answer.tokens + end, "first_s": answer.first_s, "text": answer.text,
        "gap_s": median(gaps), "worst_gap_s": max(gaps),
    }  # fmt: skip


def tune(arguments: argparse.Namespace) -> None:
    """Measure each pair of ``--ours`` on this machine; one without a drafter has nothing to measure."""
    fixed = ["-m", arguments.model, "-c", str(arguments.ctx), "-t", str(arguments.threads)]
    for flags in arguments.ours:
        if "none" not in shlex.split(flags):
            command = [sys.executable, "-m", "localspec", "tune", *fixed, *shlex.split(flags)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def measure(arguments: argparse.Namespace) -> None:
    """Run all rounds, and append their records to the file."""
    modes = modes_of(arguments)
    if not arguments.cold:
        tune(arguments)
    with arguments.out.open("a", encoding="utf-8") as out:
        for turn in range(arguments.first_round, arguments.first_round + arguments.rounds):
            for streams in arguments.streams:
                head = {"about": about(arguments.server), "model": Path(arguments.model).name, "n": arguments.n}
                print(json.dumps(head), file=out)
                for i in range(len(modes)):
                    mode, before = modes[(i + turn) % len(modes)], busy(0.5)
                    for record in run(arguments, mode, streams, turn):
                        print(json.dumps({**record, "busy": before}), file=out, flush=True)
                    print(f"round {turn}, {streams} streams, {mode.name} done", file=sys.stderr)


# Tables.


def report(path: Path) -> None:
    """Print a table for each category, and the ratios to llama-server's best mode."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    runs = [record for record in records if "mode" in record]
    alone = {
        (one["mode"], answer["id"]): answer["text"] for one in runs if one["streams"] == 1 for answer in one["answers"]
    }
    for category in dict.fromkeys(one["category"] for one in runs):
        mine = [one for one in runs if one["category"] == category]
        print("\n" + table(category, mine, alone).text())
    print("\n" + ratios(runs).text())


def table(category: str, runs: Sequence[dict[str, Any]], alone: dict[tuple[str, str], str]) -> Table:
    """Return a row for each number of streams and mode; medians over the rounds, the worst of all rounds."""
    rows = []
    for streams, mode in sorted({(one["streams"], one["mode"]): None for one in runs}, key=lambda key: key[0]):
        mine = [one for one in runs if (one["streams"], one["mode"]) == (streams, mode)]
        answers = [answer for one in mine for answer in one["answers"]]
        known = [answer for answer in answers if (mode, answer["id"]) in alone]
        same = sum(answer["text"] == alone[mode, answer["id"]] for answer in known)

        def ms(name: str, of: Callable[[Iterable[float]], float], answers: Any = answers) -> str:
            return f"{1000 * of(answer[name] for answer in answers):.0f}"

        rows.append(
            (
                f"{streams}  {mode}", f"{median(map(rate, mine)):.1f}", ms("first_s", median), ms("first_s", max),
                ms("gap_s", median), ms("worst_gap_s", max), f"{same}/{len(known)}",
            )
        )  # fmt: skip
    header = ("streams", "tokens/s", "first, ms", "worst", "between, ms", "worst", "as alone")
    return Table(category, header, tuple(rows))


def rate(one: dict[str, Any]) -> float:
    """Tokens a second of all streams, prompts included."""
    return sum(answer["tokens"] for answer in one["answers"]) / one["seconds"]


def ratios(runs: Sequence[dict[str, Any]]) -> Table:
    """Return each mode of localspec against the best mode of llama-server, by the medians over the rounds."""
    categories = list(dict.fromkeys(one["category"] for one in runs))
    rates: dict[tuple[int, str, str], list[float]] = {}
    for one in runs:
        rates.setdefault((one["streams"], one["category"], one["mode"]), []).append(rate(one))
    rows = []
    for streams, mode in sorted({(streams, mode) for streams, _, mode in rates if mode.startswith(_OURS)}):
        cells = []
        for category in categories:
            peers = {m: median(r) for (s, c, m), r in rates.items() if (s, c) == (streams, category) and _PEER in m}
            mine = rates.get((streams, category, mode))
            best = max(peers, key=lambda name: peers[name]) if peers else None
            cells.append(f"{median(mine) / peers[best]:.2f} ({best.removeprefix(_PEER)[1:]})" if mine and best else "–")
        rows.append((f"{streams}  {mode}", *cells))
    return Table("Over llama-server's best mode", ("streams", *categories), tuple(rows))


def main() -> None:
    arguments = options(__doc__)
    if not arguments.report:
        measure(arguments)
    report(arguments.out)


def options(description: str | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", help="path of llama-server")
    parser.add_argument("-m", "--model")
    parser.add_argument("-d", "--draft", help="drafter of llama-server's modes that have one")
    parser.add_argument("--prompts", type=Path, help="default: those of `localspec bench`")
    parser.add_argument("--category", action="append", default=[])
    parser.add_argument("--per-category", type=int, default=4)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--first-round", type=int, default=0)
    parser.add_argument("-n", type=int, default=48, help="most tokens of an answer")
    parser.add_argument("-c", "--ctx", type=int, default=2048)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--ours", action="append", help="flags for localspec serve; default: -d auto and -d none")
    parser.add_argument("--peer", action="append", default=[], help="flags for llama-server; empty: plain")
    parser.add_argument("--peer-set", choices=sorted(PEER_SETS))
    parser.add_argument("--python", help="Python with llama-cpp-python's server")
    parser.add_argument("--out", type=Path, default=Path("serve_peers.jsonl"))
    parser.add_argument("--cold", action="store_true", help="measure no pair before")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    arguments.ours = arguments.ours or ["-d auto", "-d none"]
    return arguments


if __name__ == "__main__":
    main()
