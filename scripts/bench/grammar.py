#!/usr/bin/env python3
"""Times structured answers of localspec and llama-server in alternation: the same schemas, prompts, file and threads.

    python -m scripts.bench.grammar --server llama-server -m TARGET.gguf -d DRAFT.gguf \\
        --ours none --ours ngram --ours model --peer "" --peer "--spec-type draft-simple"

For each schema of ``--schemas`` (a JSON list of ``{"name", "schema"}``) the prompt asks for such data and shows the
schema. Greedy, nothing reused from the answer before, every mode before the next schema, and who begins takes turns.
Prints for each mode the median rate, seconds for an answer, share of forced tokens, and how many answers the
jsonschema package finds valid; and the medians of the ratios of pairs. A schema that a mode refuses is named and left
out for all. Measure on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema

import localspec
from scripts.bench.peers import server

SCHEMAS = Path(__file__).resolve().parents[2] / "tests" / "data" / "schemas.json"
FORMATS = jsonschema.FormatChecker(set(jsonschema.FormatChecker.checkers) - {"time"})


@dataclass
class Run:
    """One answer; ``seconds`` of generating, without the prompt."""

    text: str
    tokens: int
    seconds: float
    forced: int = 0
    python_share: float = 0.0

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


@dataclass
class Mode:
    """A program and its settings, with its runs."""

    name: str
    answer: Callable[[dict[str, Any]], Run | str]
    runs: dict[str, Run] = field(default_factory=dict)


def messages(item: dict[str, Any]) -> list[dict[str, str]]:
    schema = json.dumps(item["schema"], ensure_ascii=False)
    text = (
        f"Write one example of '{item['name']}' as JSON, with realistic values. It must follow this schema:\n{schema}"
    )
    return [{"role": "user", "content": text}]


def ask_engine(engine: localspec.Engine, item: dict[str, Any], n: int) -> Run | str:
    """Return an answer, or the reason why there is none."""
    engine.forget()
    shape = {"type": "json_schema", "json_schema": {"schema": item["schema"]}}
    try:
        done = engine.chat(messages(item), max_tokens=n, temperature=0, response_format=shape)
    except localspec.LocalspecError as error:
        return str(error)
    stats = done.stats
    return Run(done.text, len(done.tokens), stats.generate_s, stats.forced, stats.python_s / stats.generate_s)


def ask_server(address: str, engine: localspec.Engine, item: dict[str, Any], n: int) -> Run | str:
    """Return the same from llama-server, for the same prompt tokens."""
    body = {
        "prompt": engine.prompt_tokens(messages(item)), "n_predict": n, "temperature": 0, "samplers": ["top_k"],
        "top_k": 1, "cache_prompt": False, "json_schema": item["schema"],
    }  # fmt: skip
    request = urllib.request.Request(
        f"{address}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=600) as response:
            reply = json.load(response)
    except urllib.error.HTTPError as error:
        return error.read().decode(errors="replace")[:200]
    timings = reply["timings"]
    return Run(reply["content"], timings["predicted_n"], timings["predicted_ms"] / 1000)


def valid(schema: Any, text: str) -> bool:
    kind = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    try:
        kind(schema, format_checker=FORMATS).validate(json.loads(text))
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


def build_modes(arguments: argparse.Namespace, stack: ExitStack) -> list[Mode]:
    """llama-server's first, which the ratios are to."""
    modes: list[Mode] = []
    engines = {}
    for kind in arguments.ours:
        draft = arguments.draft if kind == "model" else kind
        engines[kind] = stack.enter_context(
            localspec.load(arguments.model, draft, ctx_size=arguments.ctx, threads=arguments.threads)
        )
    prompts = next(iter(engines.values()))
    for flags in arguments.peer:
        extra = shlex.split(flags)
        if any("draft" in flag for flag in extra):
            extra += ["-md", arguments.draft, "-td", str(arguments.threads)]
        common = ["-m", arguments.model, "-c", str(arguments.ctx), "-t", str(arguments.threads)]
        address = stack.enter_context(server(arguments.server, common + extra))
        ask = lambda item, a=address: ask_server(a, prompts, item, arguments.n)  # noqa: E731
        modes.append(Mode(f"llama-server {flags or 'plain'}", ask))
    for kind, engine in engines.items():
        modes.append(Mode(f"localspec {kind}", partial(ask_engine, engine, n=arguments.n)))
    return modes


def measure(modes: list[Mode], items: list[dict[str, Any]], pause: float) -> list[str]:
    """Fill the modes' runs; names of the schemas that all of them answered."""
    done = []
    for number, item in enumerate(items):
        refused = ""
        for mode in modes[number % len(modes) :] + modes[: number % len(modes)]:
            found = mode.answer(item)
            if isinstance(found, str):
                refused = f"{item['name']}: {mode.name} says {found}"
                break
            mode.runs[item["name"]] = found
            time.sleep(pause)
        if refused:
            print(refused)
        else:
            done.append(item["name"])
    return done


def report(modes: list[Mode], schemas: dict[str, Any], names: list[str], save: str | None) -> None:
    base = modes[0]
    print(f"\n{len(names)} schemas; ratios are medians of pairs to {base.name}")
    for mode in modes:
        runs = [mode.runs[name] for name in names]
        rate = statistics.median(mode.runs[name].rate / base.runs[name].rate for name in names)
        speed = statistics.median(base.runs[name].seconds / mode.runs[name].seconds for name in names)
        forced = sum(run.forced for run in runs) / sum(run.tokens for run in runs)
        fine = sum(valid(schemas[name], mode.runs[name].text) for name in names)
        print(
            f"  {mode.name:40} {statistics.median(run.rate for run in runs):7.2f} tok/s {rate:6.3f}x"
            f"  {statistics.median(run.seconds for run in runs):6.3f} s/answer, {speed:6.3f}x as fast"
            f"  all {sum(run.seconds for run in runs):7.1f} s for {sum(run.tokens for run in runs)} tokens"
            f"  forced {forced:5.1%}  python {statistics.median(run.python_share for run in runs):5.1%}"
            f"  valid {fine}/{len(names)}"
        )
        for name in names:
            if not valid(schemas[name], mode.runs[name].text):
                print(f"      not valid: {name}: {mode.runs[name].text[:100]!r}")
    ours = [mode for mode in modes if mode.name.startswith("localspec")]
    same = sum(len({mode.runs[name].text for mode in ours}) == 1 for name in names)
    print(f"  the same text in all {len(ours)} modes of localspec: {same}/{len(names)}")
    if save:
        rows = {mode.name: {name: vars(mode.runs[name]) for name in names} for mode in modes}
        Path(save).write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True, help="path of llama-server")
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-d", "--draft")
    parser.add_argument("--schemas", default=str(SCHEMAS))
    parser.add_argument("--count", type=int, help="so many schemas, spread over the file")
    parser.add_argument("-n", type=int, default=256)
    parser.add_argument("-c", "--ctx", type=int, default=2048)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--pause", type=float, default=0.2)
    parser.add_argument("--save", help="write all runs to this JSON file")
    parser.add_argument("--ours", action="append", required=True, help="none, ngram, auto or model")
    parser.add_argument("--peer", action="append", required=True, help="flags for llama-server; empty: plain")
    arguments = parser.parse_args()
    items = json.loads(Path(arguments.schemas).read_text(encoding="utf-8"))
    items = items[:: max(1, len(items) // (arguments.count or len(items)))][: arguments.count]
    with ExitStack() as stack:
        modes = build_modes(arguments, stack)
        for mode in modes:
            mode.answer(items[0])  # page the files in
        names = measure(modes, items, arguments.pause)
        report(modes, {item["name"]: item["schema"] for item in items}, names, arguments.save)


if __name__ == "__main__":
    main()
