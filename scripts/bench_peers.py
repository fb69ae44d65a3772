#!/usr/bin/env python3
"""Times localspec and llama-server in alternation on the same files, threads and prompts.

    python scripts/bench_peers.py --server llama-server -m TARGET.gguf -d DRAFT.gguf --prompts PROMPTS.jsonl \\
        --ours none --ours "model:3" --peer "" --peer "--spec-type draft-simple --spec-draft-n-max 3"

Each line of PROMPTS is ``{"id", "category", "messages"}``. ``--ours`` is ``none``, ``ngram``, ``auto`` or ``model``,
with ``:N`` for --draft-max N; ``--peer`` is what to add to llama-server's command line (empty: plain decoding). Each
prompt runs greedily in every mode before the next prompt, so that a slow minute of the machine hits all of them. Prints
medians of tokens/s and of the per-prompt ratios, and counts the answers that equal the first mode's. Measure on an
otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import shlex
import socket
import statistics
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import localspec
from localspec.errors import InputError


@dataclass
class Run:
    """One prompt in one mode; rates in tokens a second."""

    tokens: list[int]
    rate: float
    prompt_s: float
    python_share: float = 0.0
    accepted: float | None = None


@dataclass
class Mode:
    """A way to answer, with its runs so far (one a prompt)."""

    name: str
    answer: Any
    runs: list[Run] = field(default_factory=list)


@contextmanager
def server(binary: str, arguments: list[str]) -> Iterator[str]:
    """Run llama-server; yields its address when it is ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [binary, *arguments, "--host", "127.0.0.1", "--port", str(port), "-np", "1", "--no-warmup"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            if process.poll() is not None:
                raise SystemExit(f"llama-server ended at once: {shlex.join(command)}")
            try:
                urllib.request.urlopen(f"{address}/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait()


def ask_server(address: str, tokens: list[int], n: int) -> Run:
    """Greedy completion of ``tokens`` by llama-server, without its prompt cache."""
    body = {
        "prompt": tokens, "n_predict": n, "temperature": 0, "samplers": ["top_k"], "top_k": 1, "cache_prompt": False,
        "return_tokens": True,
    }  # fmt: skip
    request = urllib.request.Request(
        f"{address}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=600) as response:
        reply = json.load(response)
    timings = reply["timings"]
    drafted = timings.get("draft_n", 0)
    accepted = timings.get("draft_n_accepted", 0) / drafted if drafted else None
    return Run(reply["tokens"], timings["predicted_per_second"], timings["prompt_ms"] / 1000, accepted=accepted)


def ask_engine(engine: localspec.Engine, messages: list[dict[str, str]], n: int, draft_max: int | None) -> Run:
    """Greedy answer by localspec, nothing reused from the prompt before."""
    engine.forget()
    done = engine.chat(messages, max_tokens=n, temperature=0, draft_max=draft_max)
    stats = done.stats
    return Run(
        list(done.tokens), stats.tokens_per_s, stats.prompt_s, stats.python_s / stats.generate_s, stats.acceptance
    )


def prompts(path: str, categories: list[str], per_category: int) -> list[dict[str, Any]]:
    """The first ``per_category`` prompts of each category asked for (all when none is)."""
    found: dict[str, list[dict[str, Any]]] = {}
    with open(path, encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            try:
                row = json.loads(line)
                found.setdefault(row["category"], []).append({"id": row["id"], **row})
            except (ValueError, KeyError) as error:
                raise InputError(f"{path}, line {number}: {error}; each line is {{id, category, messages}}.") from error
    return [row for name, rows in found.items() if not categories or name in categories for row in rows[:per_category]]


def build_modes(arguments: argparse.Namespace, stack: ExitStack) -> list[Mode]:
    """All modes, each with its own loaded model."""
    modes = []
    for spec in arguments.ours:
        kind, _, most = spec.partition(":")
        draft = arguments.draft if kind == "model" else kind
        engine = stack.enter_context(
            localspec.load(arguments.model, draft, ctx_size=arguments.ctx, threads=arguments.threads)
        )
        draft_max = int(most) if most else None
        modes.append(
            Mode(
                f"localspec {spec}",
                lambda row, e=engine, k=draft_max: ask_engine(e, row["messages"], arguments.n, k),
            )
        )
    for flags in arguments.peer:
        extra = shlex.split(flags)
        if any("draft" in flag for flag in extra):
            extra += ["-md", arguments.draft, "-td", str(arguments.threads)]
        common = ["-m", arguments.model, "-c", str(arguments.ctx), "-t", str(arguments.threads)]
        address = stack.enter_context(server(arguments.server, common + extra))
        vocabulary = modes[0].answer.__defaults__[0]
        modes.append(
            Mode(
                f"llama-server {flags or 'plain'}",
                lambda row, a=address, e=vocabulary: ask_server(a, e.prompt_tokens(row["messages"]), arguments.n),
            )
        )
    return modes


def report(modes: list[Mode], rows: list[dict[str, Any]]) -> None:
    """Medians by category; ratios are medians of per-prompt ratios to the first mode."""
    base = modes[0].runs
    for category in [*dict.fromkeys(row["category"] for row in rows), "all"]:
        chosen = [i for i, row in enumerate(rows) if category in (row["category"], "all")]
        print(f"\n{category} ({len(chosen)} prompts)")
        for mode in modes:
            runs = [mode.runs[i] for i in chosen]
            ratio = statistics.median(mode.runs[i].rate / base[i].rate for i in chosen)
            shares = [run.accepted for run in runs if run.accepted is not None]
            same = sum(mode.runs[i].tokens == base[i].tokens for i in chosen)
            print(
                f"  {mode.name:58} {statistics.median(run.rate for run in runs):7.2f} tok/s  {ratio:5.3f}x"
                f"  prompt {statistics.median(run.prompt_s for run in runs):6.3f} s"
                f"  accepted {statistics.mean(shares) if shares else 0:5.1%}"
                f"  python {statistics.median(run.python_share for run in runs):5.2%}  same {same}/{len(chosen)}"
            )
    for i, one in enumerate(modes):
        for other in modes[i + 1 :]:
            ratio = statistics.median(a.rate / b.rate for a, b in zip(one.runs, other.runs, strict=True))
            print(f"{one.name} / {other.name}: {ratio:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True, help="path of llama-server")
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-d", "--draft")
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--category", action="append", default=[])
    parser.add_argument("--per-category", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("-n", type=int, default=160)
    parser.add_argument("-c", "--ctx", type=int, default=2048)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--ours", action="append", required=True)
    parser.add_argument("--peer", action="append", default=[])
    arguments = parser.parse_args()
    rows = prompts(arguments.prompts, arguments.category, arguments.per_category) * arguments.repeat
    with ExitStack() as stack:
        modes = build_modes(arguments, stack)
        for mode in modes:
            mode.answer(rows[0])  # page the files in
        for number, row in enumerate(rows):
            order = modes[number % len(modes) :] + modes[: number % len(modes)]
            for mode in order:
                mode.runs.append(mode.answer(row))
                time.sleep(0.2)
        report(modes, rows)


if __name__ == "__main__":
    main()
