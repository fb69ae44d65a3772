#!/usr/bin/env python3
"""Compares the peak memory of localspec and of llama-server: the same pair, context, threads and prompt.

    python -m scripts.bench.memory --server llama-server -m TARGET.gguf -d DRAFT.gguf --prompts PROMPTS.jsonl \\
        --out memory.jsonl

Each mode answers the longest prompt of the file in a process of its own, which then tells the most memory that it had
(VmHWM of Linux: pages of the mapped model files that it touched are in it) and what of its present memory no file
backs. ``--ours`` and ``--peer`` are those of scripts.bench.peers. llama-server keeps no old prompts (``--cache-ram
0``).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from localspec.bench.prompts import BenchPrompt
from scripts.bench.measure.machine import about, anonymous_rss, peak_rss
from scripts.bench.measure.memory_report import read_peaks, table
from scripts.bench.measure.prompts import read_prompts
from scripts.bench.measure.schedule import end_tidily
from scripts.bench.measure.servers import PEER_SETS, Peer, Sampling, ask_server

OURS, PEERS = ("none", "auto"), ("", *list(PEER_SETS["issue"].values())[1:2])


def measure_child(arguments: argparse.Namespace, prompt: BenchPrompt) -> None:
    """Answer in a child process, and print the prompt's tokens and the memory."""
    from scripts.bench.measure.engines import ask_engine, load_mode

    engine, most = load_mode(arguments.child, arguments.model, arguments.draft, arguments.ctx, arguments.threads)
    with engine:
        tokens = engine.prompt_tokens(prompt.messages)
        ask_engine(engine, prompt.messages, arguments.n, Sampling(), most)
        print(json.dumps({"tokens": tokens, "peak": peak_rss(), "anonymous": anonymous_rss()}))


def ours(spec: str) -> dict[str, Any]:
    """Return the output of :func:`measure_child` for a mode of localspec."""
    command = [sys.executable, "-m", "scripts.bench.memory", *sys.argv[1:], "--child", spec]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"localspec {spec} failed; its output is above")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def theirs(flags: str, arguments: argparse.Namespace, tokens: Sequence[int]) -> dict[str, Any]:
    """Return the same for a mode of llama-server."""
    common = ["-m", arguments.model, "-c", str(arguments.ctx), "-t", str(arguments.threads)]
    draft = ["-md", str(arguments.draft), "-td", str(arguments.threads)]
    peer = Peer(flags, arguments.server, common, draft, lambda at, _: ask_server(at, tokens, arguments.n, Sampling()))
    peer.start()
    try:
        peer.answer(None)  # type: ignore[arg-type]  # there is one prompt only
        return {"peak": peak_rss(peer.pid), "anonymous": anonymous_rss(peer.pid)}
    finally:
        peer.stop()


def main() -> None:
    arguments = options()
    prompts = read_prompts(arguments.prompts)
    prompt = max(prompts, key=lambda one: sum(len(message["content"]) for message in one.messages))
    if arguments.child:
        measure_child(arguments, prompt)
        return
    end_tidily()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    described = {**about(arguments.server), "command": " ".join(sys.argv)}
    for _ in range(arguments.repeat):
        tokens: list[int] = []
        for side, spec in (*(("ours", one) for one in arguments.ours), *(("peer", one) for one in arguments.peer)):
            if side == "ours":
                found = ours(spec)
                tokens, name = found.pop("tokens"), f"localspec {spec}"
            else:
                found, name = theirs(spec, arguments, tokens), Peer(spec, "", (), (), ask_nothing).name
            line = {
                "kind": "memory", "mode": name, **found, "model": Path(arguments.model).name,
                "draft": Path(arguments.draft).name, "ctx": arguments.ctx, "n": arguments.n, "about": described,
            }  # fmt: skip
            with arguments.out.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")
            print(f"{name}: {found['peak'] / 2**20:.0f} MiB", file=sys.stderr, flush=True)
    for peaks in read_peaks(arguments.out):
        print("\n" + table(peaks).text())


def ask_nothing(address: str, unit: object) -> Any:
    raise NotImplementedError


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True, help="path of llama-server")
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-d", "--draft", required=True)
    parser.add_argument("--prompts", required=True, type=Path)
    parser.add_argument("--out", type=Path, default=Path("bench_memory.jsonl"))
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("-n", type=int, default=64)
    parser.add_argument("-c", "--ctx", type=int, default=2048)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--ours", action="append", help="default: none and auto")
    parser.add_argument("--peer", action="append", help="default: plain, and draft-simple with n_max 3")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.ours, arguments.peer = arguments.ours or list(OURS), arguments.peer or list(PEERS)
    return arguments


if __name__ == "__main__":
    main()
