#!/usr/bin/env python3
"""Times localspec and llama-server in alternation on the same files, threads and prompts.

    python -m scripts.bench.peers --server llama-server -m TARGET.gguf -d DRAFT.gguf --prompts PROMPTS.jsonl \\
        --peer-set issue --per-category 4 --minutes 45 --out results.jsonl

Each line of PROMPTS is ``{"id", "category", "messages"}``. ``--ours`` is ``none``, ``ngram``, ``auto``, ``mtp`` or
``model``, with ``:N`` for --draft-max N, ``!off`` for --exactness off, or ``@FILE`` for another drafter; ``--peer`` is
what to add to llama-server's command line (empty: plain decoding), ``--peer-set`` a list of such (``issue``: its six
modes). Each prompt runs in every mode before the next prompt, in rotating order, so that a slow minute of the machine
hits all of them; prompts come round-robin over the categories. Every run is written to ``--out`` at once, and the same
command goes on where the last one ended. ``--report`` only prints the tables of what is there. Measure on an otherwise
idle machine.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import localspec
from localspec.bench.prompts import BenchPrompt
from scripts.bench.measure.engines import ask_engine, load_mode
from scripts.bench.measure.machine import about
from scripts.bench.measure.peers_report import tables
from scripts.bench.measure.prompts import WARM_UP, read_prompts, units_of
from scripts.bench.measure.records import Run, RunFile, Study, Unit, read
from scripts.bench.measure.schedule import Clock, Mode, end_tidily, measure
from scripts.bench.measure.servers import PEER_SETS, Peer, Sampling, ask_server, server

__all__ = ["server"]  # bench_grammar.py takes it from here
WARM_UNIT = Unit("warm-up", "warm-up")


@dataclass
class Ours:
    """A mode of localspec: an ``engine``, with its drafters or without."""

    name: str
    engine: localspec.Engine
    drafting: bool
    draft_max: int | None
    prompts: dict[str, BenchPrompt]
    n: int
    sampling: Sampling

    def answer(self, unit: Unit) -> Run:
        messages = self.prompts[unit.prompt].messages
        self.engine.drafting = self.drafting
        return ask_engine(self.engine, messages, self.n, of_turn(self.sampling, unit), self.draft_max)


def of_turn(sampling: Sampling, unit: Unit) -> Sampling:
    """Each pass has a seed of its own."""
    return replace(sampling, seed=sampling.seed + unit.turn)


def peer_flags(arguments: argparse.Namespace) -> list[str]:
    return [*(PEER_SETS[arguments.peer_set].values() if arguments.peer_set else ()), *arguments.peer]


def build_modes(
    arguments: argparse.Namespace, prompts: dict[str, BenchPrompt], stack: ExitStack
) -> tuple[list[Ours], list[Peer]]:
    """Return all modes, with the servers not started.

    ``none`` is the engine of ``auto`` with its drafters left out: the same weights at two places in memory differ by
    2% in speed, which is no difference between the modes.
    """
    sampling = Sampling(arguments.temp, arguments.seed)
    ours, loaded = list[Ours](), dict[str, tuple[localspec.Engine, int | None]]()
    for spec in arguments.ours:
        same = "auto" if spec == "none" and "auto" in arguments.ours else spec
        if same not in loaded:
            loaded[same] = load_mode(same, arguments.model, arguments.draft, arguments.ctx, arguments.threads)
            stack.enter_context(loaded[same][0])
        engine, most = loaded[same]
        ours.append(Ours(f"localspec {spec}", engine, spec != "none", most, prompts, arguments.n, sampling))
    vocabulary = ours[0].engine

    def ask(address: str, unit: Unit) -> Run:
        tokens = vocabulary.prompt_tokens(prompts[unit.prompt].messages)
        return ask_server(address, tokens, arguments.n, of_turn(sampling, unit))

    common = ["-m", arguments.model, "-c", str(arguments.ctx), "-t", str(arguments.threads), *arguments.peer_extra]
    draft = ["-md", str(arguments.draft), "-td", str(arguments.threads)] if arguments.draft else []
    return ours, [Peer(flags, arguments.server, common, draft, ask) for flags in peer_flags(arguments)]


def setting_of(arguments: argparse.Namespace, names: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the setting that comparable runs share."""
    return {
        "script": "bench_peers",
        "model": file_of(arguments.model),
        "draft": file_of(arguments.draft),
        "n": arguments.n, "ctx": arguments.ctx, "threads": arguments.threads,
        "temperature": arguments.temp, "seed": arguments.seed, "peer_extra": arguments.peer_extra,
        "modes": [{"name": name, "side": side} for name, side in names],
    }  # fmt: skip


def file_of(path: str | None) -> list[str | int] | None:
    """Return name and size of a model's file."""
    if path is None:
        return None
    return [Path(path).name, Path(path).stat().st_size] if Path(path).exists() else [path]


def run(
    arguments: argparse.Namespace, book: RunFile, ours: list[Ours], peers: list[Peer], units: Sequence[Unit]
) -> None:
    """Run pass by pass, each with fresh servers, because some keep n-grams of earlier answers."""
    clock = Clock(arguments.minutes)
    modes: list[Mode] = [*ours, *peers]
    turns = sorted({unit.turn for unit in units if not book.has(unit)})
    for turn in turns:
        for peer in peers:
            if not peer.pid:
                peer.start()
                peer.answer(WARM_UNIT)
        if turn == turns[0]:
            for mode in ours:
                mode.answer(WARM_UNIT)
        mine = [unit for unit in units if unit.turn == turn]
        waiting = sum(not book.has(unit) for unit in mine)
        later = [unit.category for unit in units if unit.turn > turn and not book.has(unit)]
        finished = measure(mine, modes, book, clock, pause=arguments.pause, later=later)
        for peer in peers:
            if peer.remembers or turn == turns[-1] or finished < waiting:
                book.note("memory", mode=peer.name, peak_rss=peer.stop())
        if finished < waiting:
            return


def report(studies: Sequence[Study]) -> None:
    """Print all tables."""
    for study in studies:
        print(f"\n{len(study.units)} rounds finished in every mode: {', '.join(study.modes)}")
        for table in tables(study) if study.units else ():
            print("\n" + table.text())


def main() -> None:
    arguments = options()
    if arguments.report:
        report(read(arguments.out))
        return
    end_tidily()
    prompts = read_prompts(arguments.prompts, arguments.category)
    units = units_of(prompts, arguments.per_category, arguments.repeat)
    known = {prompt.id: prompt for prompt in prompts}
    known[WARM_UNIT.prompt] = BenchPrompt(WARM_UNIT.prompt, "warm-up", ({"role": "user", "content": WARM_UP},))
    with ExitStack() as stack:
        ours, peers = build_modes(arguments, known, stack)
        names = [*((mode.name, "ours") for mode in ours), *((peer.name, "peer") for peer in peers)]
        described = {**about(arguments.server), "command": " ".join(sys.argv)}
        book = RunFile(arguments.out, setting_of(arguments, names), described)
        for peer in peers:
            stack.callback(peer.stop)
        run(arguments, book, ours, peers, units)
    report([book.study()])


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True, help="path of llama-server")
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-d", "--draft")
    parser.add_argument("--prompts", required=True, type=Path)
    parser.add_argument("--out", type=Path, default=Path("bench_peers.jsonl"))
    parser.add_argument("--category", action="append", default=[])
    parser.add_argument("--per-category", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=1, help="passes over all prompts")
    parser.add_argument("--minutes", type=float, help="begin no prompt that would end after so many minutes")
    parser.add_argument("-n", type=int, default=160)
    parser.add_argument("-c", "--ctx", type=int, default=2048)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--temp", type=float, default=0.0, help="above 0 nothing is truncated, on either side")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.2, help="seconds between answers")
    parser.add_argument("--ours", action="append", help="default: none and auto")
    parser.add_argument("--peer", action="append", default=[], help="flags for llama-server; empty: plain")
    parser.add_argument("--peer-set", choices=sorted(PEER_SETS))
    parser.add_argument("--peer-extra", default="", help="flags for every llama-server")
    parser.add_argument("--report", action="store_true", help="measure nothing, print the tables of --out")
    arguments = parser.parse_args()
    arguments.ours = arguments.ours or ["none", "auto"]
    arguments.peer_extra = arguments.peer_extra.split()
    return arguments


if __name__ == "__main__":
    main()
