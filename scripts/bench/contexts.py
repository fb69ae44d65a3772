#!/usr/bin/env python3
"""Measures the gain of drafting by length of context and number of threads.

    python -m scripts.bench.contexts -m TARGET.gguf -d DRAFT.gguf --prompts PROMPTS.jsonl --threads 1 2 \\
        --contexts 1024 4096 8192 --per-category 1 --out contexts.jsonl [--server llama-server --peer-set plain]

Puts so many tokens of real text before each prompt (``--text FILE``; else the passages of the summarization, rag and
edit prompts that are not asked about) and times generation in every mode, prompt by prompt, in rotating order. The text
stays in the cache from prompt to prompt and from length to length, on both sides, so only the first prompt of a length
pays for it; rates are those of generation. Every run is written to ``--out`` at once, and the same command goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import localspec
from localspec.bench.prompts import BenchPrompt
from scripts.bench.measure.contexts_report import table
from scripts.bench.measure.engines import ask_engine, load_mode
from scripts.bench.measure.machine import about
from scripts.bench.measure.passages import WITH_TEXT, cut_to, passages, with_text
from scripts.bench.measure.prompts import WARM_UP, read_prompts, units_of
from scripts.bench.measure.records import Run, RunFile, Unit, read
from scripts.bench.measure.schedule import Clock, Mode, end_tidily, measure
from scripts.bench.measure.servers import PEER_SETS, Peer, Sampling, ask_server
from scripts.bench.peers import file_of

WARM_UNIT = Unit("warm-up", "warm-up", 0, (("context", 0),))


@dataclass
class Texts:
    """Return prompts behind a text of each length; the same objects every time."""

    prompts: dict[str, BenchPrompt]
    text: str
    _cut: dict[int, str] = field(default_factory=dict)

    def messages(self, unit: Unit, engine: localspec.Engine) -> Sequence[dict[str, Any]]:
        length = int(dict(unit.more)["context"])
        if length == 0:
            return self.prompts[unit.prompt].messages
        if length not in self._cut:
            self._cut[length] = cut_to(self.text, length, engine.tokenize)
        return with_text(self.prompts[unit.prompt], self._cut[length]).messages


@dataclass
class Ours:
    """A mode of localspec."""

    name: str
    engine: localspec.Engine
    ask: Callable[[localspec.Engine, Unit], Run]

    def answer(self, unit: Unit) -> Run:
        return self.ask(self.engine, unit)


@dataclass
class Fresh:
    """Restarts the servers that keep n-grams at each length, because the questions repeat."""

    modes: Sequence[Mode]
    length: int | str | None = None

    def __call__(self, unit: Unit) -> None:
        length, before = dict(unit.more)["context"], self.length
        self.length = length
        for mode in self.modes if before not in (None, length) else ():
            if isinstance(mode, Peer) and mode.remembers:
                mode.stop()
                mode.start()
                mode.answer(WARM_UNIT)


def build_modes(arguments: argparse.Namespace, texts: Texts, threads: int, stack: ExitStack) -> list[Mode]:
    """Return all modes with this number of threads, warmed up."""
    ctx, n = max(arguments.contexts) + arguments.room, arguments.n
    modes: list[Mode] = []
    for spec in arguments.ours:
        engine, most = load_mode(spec, arguments.model, arguments.draft, ctx, threads)
        stack.enter_context(engine)

        def ask(own: localspec.Engine, unit: Unit, most: int | None = most) -> Run:
            return ask_engine(own, texts.messages(unit, own), n, Sampling(), most, reuse=True)

        modes.append(Ours(f"localspec {spec}", engine, ask))
        vocabulary = engine

    def ask_peer(address: str, unit: Unit) -> Run:
        tokens = vocabulary.prompt_tokens(texts.messages(unit, vocabulary))
        return ask_server(address, tokens, n, Sampling(), reuse=True)

    common = ["-m", arguments.model, "-c", str(ctx), "-t", str(threads)]
    draft = ["-md", str(arguments.draft), "-td", str(threads)]
    for flags in peer_flags(arguments):
        peer = Peer(flags, arguments.server, common, draft, ask_peer)
        stack.callback(peer.stop)
        peer.start()
        modes.append(peer)
    for mode in modes:
        mode.answer(WARM_UNIT)
    return modes


def peer_flags(arguments: argparse.Namespace) -> list[str]:
    if not arguments.server:
        return []
    return [*(PEER_SETS[arguments.peer_set].values() if arguments.peer_set else ()), *arguments.peer]


def units_at(units: Sequence[Unit], length: int, threads: int) -> list[Unit]:
    more = (("context", length), ("threads", threads))
    return [Unit(unit.prompt, unit.category, unit.turn, more) for unit in units]


def setting_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the setting that comparable runs share."""
    peers = [Peer(flags, "", (), (), _nothing).name for flags in peer_flags(arguments)]
    named = [*((f"localspec {spec}", "ours") for spec in arguments.ours), *((name, "peer") for name in peers)]
    return {
        "script": "bench_contexts",
        "model": file_of(arguments.model), "draft": file_of(arguments.draft), "text": arguments.text or "passages",
        "n": arguments.n, "modes": [{"name": name, "side": side} for name, side in named],
    }  # fmt: skip


def _nothing(address: str, unit: Unit) -> Run:
    raise NotImplementedError


def main() -> None:
    arguments = options()
    end_tidily()
    prompts = read_prompts(arguments.prompts)
    asked = [prompt for prompt in prompts if prompt.category in arguments.category]
    units = units_of(asked, arguments.per_category, arguments.repeat)
    used = {unit.prompt for unit in units}
    spare = [prompt for prompt in prompts if prompt.id not in used and prompt.category in WITH_TEXT]
    text = Path(arguments.text).read_text(encoding="utf-8") if arguments.text else passages(spare)
    known = {prompt.id: prompt for prompt in prompts}
    known[WARM_UNIT.prompt] = BenchPrompt(WARM_UNIT.prompt, "warm-up", ({"role": "user", "content": WARM_UP},))
    described = {**about(arguments.server), "command": " ".join(sys.argv)}
    book, clock = RunFile(arguments.out, setting_of(arguments), described), Clock(arguments.minutes)
    todo = [
        (threads, unit)
        for threads in arguments.threads
        for length in sorted(arguments.contexts)
        for unit in units_at(units, length, threads)
    ]
    for threads in arguments.threads:
        mine = [unit for of, unit in todo if of == threads]
        if all(book.has(unit) for unit in mine):
            continue
        with ExitStack() as stack:
            modes = build_modes(arguments, Texts(known, text), threads, stack)
            waiting = sum(not book.has(unit) for unit in mine)
            rest = arguments.threads[arguments.threads.index(threads) + 1 :]
            later = [unit.category for of, unit in todo if of in rest and not book.has(unit)]
            if measure(mine, modes, book, clock, pause=arguments.pause, before=Fresh(modes), later=later) < waiting:
                break
    for study in read(arguments.out):
        print("\n" + table(study).text())


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-d", "--draft")
    parser.add_argument("--prompts", required=True, type=Path)
    parser.add_argument("--text", help="file of real text; default: passages of the prompts file")
    parser.add_argument("--out", type=Path, default=Path("bench_contexts.jsonl"))
    parser.add_argument("--contexts", type=int, nargs="+", default=[1024, 4096, 8192], help="tokens in front")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--category", nargs="+", default=["code", "edit", "chat", "qa"])
    parser.add_argument("--per-category", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--minutes", type=float, help="begin no prompt that would end after so many minutes")
    parser.add_argument("--room", type=int, default=1536, help="context for the question and its answer")
    parser.add_argument("-n", type=int, default=96)
    parser.add_argument("--pause", type=float, default=0.2, help="seconds between answers")
    parser.add_argument("--ours", action="append", help="default: none and auto")
    parser.add_argument("--server", help="path of llama-server, for --peer and --peer-set")
    parser.add_argument("--peer", action="append", default=[], help="flags for llama-server; empty: plain")
    parser.add_argument("--peer-set", choices=sorted(PEER_SETS))
    arguments = parser.parse_args()
    arguments.ours = arguments.ours or ["none", "auto"]
    return arguments


if __name__ == "__main__":
    main()
