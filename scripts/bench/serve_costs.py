#!/usr/bin/env python3
"""Measure what `localspec serve` and llama-server save of a shared system prompt, and what conversations cost.

    python -m scripts.bench.serve_costs --server llama-server -m TARGET.gguf

Takes the options of `scripts.bench.serve_peers`. Each server starts with room for eight conversations. Eight requests
with the same system prompt of about 2,000 tokens come one after the other, then eight conversations of their own stay
idle. Memory is what no file backs. With ``--generate`` nothing of this: each prompt is answered by `localspec serve`
and by an engine in this process, as `localspec generate` has it, by turns.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from statistics import median

import localspec
from localspec.bench.prompts import BenchPrompt
from scripts.bench.measure.http_streams import ask_all
from scripts.bench.measure.machine import anonymous_rss
from scripts.bench.measure.servers import listening
from scripts.bench.measure.statistics import interval
from scripts.bench.measure.tables import Table
from scripts.bench.serve_peers import PATH, Mode, chosen, modes_of, options, tune

_CONVERSATIONS = 8
_RULE = "Rule {}: answer in one short sentence, and name the number of every rule that you follow. "


def row(mode: Mode) -> tuple[str, ...]:
    """Return the first times and the memory of one server."""
    system = {"role": "system", "content": "".join(map(_RULE.format, range(85)))}
    shared = [({"role": "user", "content": f"What is {i} + {i}?"},) for i in range(_CONVERSATIONS)]
    own = [({"role": "user", "content": f"Chapter {i}. " * 300},) for i in range(_CONVERSATIONS)]
    with listening(lambda port: mode.command(port, _CONVERSATIONS), mode.ready) as (port, pid):

        def ask(messages: tuple[dict[str, str], ...]) -> float:
            answers, _ = ask_all(port, PATH, [mode.body(BenchPrompt("", "", messages), 4)], 1)
            return 1000 * answers[0].first_s

        ask(shared[0])
        started = anonymous_rss(pid) or 0
        first, *later = [ask((system, *messages)) for messages in shared]
        for messages in own:
            ask(messages)
        grown = (anonymous_rss(pid) or 0) - started
    return mode.name, f"{first:.0f}", f"{median(later):.0f}", f"{started / 2**20:.0f}", f"{grown / 2**20:.0f}"


def beside_generate(arguments: argparse.Namespace, flags: str) -> Table:
    """Return the seconds of whole answers without HTTP over those with it, for each category."""
    mode = modes_of(argparse.Namespace(**{**vars(arguments), "ours": [flags]}))[0]
    draft, ratios = shlex.split(flags)[1], dict[str, list[float]]()
    with (
        localspec.load(arguments.model, draft, ctx_size=arguments.ctx, threads=arguments.threads) as engine,
        listening(lambda port: mode.command(port, 1), mode.ready) as (port, _),
    ):

        def generate(prompt: BenchPrompt) -> float:
            began = time.perf_counter()
            engine.chat(list(prompt.messages), max_tokens=arguments.n, temperature=0)
            return time.perf_counter() - began

        def serve(prompt: BenchPrompt) -> float:
            return ask_all(port, PATH, [mode.body(prompt, arguments.n)], 1)[1]

        for category, prompts in {"warm-up": chosen(arguments, 1).popitem()[1], **chosen(arguments, 1)}.items():
            for i, prompt in enumerate(prompts):
                first, second = (generate, serve) if i % 2 else (serve, generate)
                seconds = {first: first(prompt), second: second(prompt)}
                ratios.setdefault(category, []).append(seconds[generate] / seconds[serve])
    del ratios["warm-up"]
    rows = tuple((name, str(interval(found))) for name, found in ratios.items())
    return Table(f"localspec serve over localspec generate, {flags}", ("", "speed"), rows)


def main() -> None:
    if "--generate" in sys.argv:
        sys.argv.remove("--generate")
        arguments = options(__doc__)
        tune(arguments)
        for flags in arguments.ours:
            print(beside_generate(arguments, flags).text())
        return
    arguments = options(__doc__)
    rows = tuple(row(mode) for mode in modes_of(arguments))
    header = ("server", "first, ms", "later ones, ms", "started, MiB", "8 idle, MiB more")
    print(Table("A shared system prompt, and idle conversations", header, rows).text())


if __name__ == "__main__":
    main()
