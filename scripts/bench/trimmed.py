#!/usr/bin/env python3
"""Compares drafters for one target: step cost, agreement and tokens a second.

    python -m scripts.bench.trimmed -m TARGET.gguf -d WHOLE.gguf -d TRIMMED.gguf --prompts PROMPTS.jsonl \\
        --per-category 2 -n 160 -t 2 --out trimmed.jsonl

Each line of PROMPTS is ``{"id", "category", "messages"}``. Every prompt is answered greedily without a drafter and with
each, in rotating order. Then all drafters are fed the plain answer, token by token, in turn: agreement is how often a
drafter's likeliest token is the answer's next one, and a step is the time to decode one and find it. ``--report``
prints the table of what --out has. Measure on an otherwise idle machine; agreement needs none (``--no-times`` skips the
answers with drafters).
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import localspec
from gguf_convert.trimming.trim import step_bytes
from localspec.bench.prompts import BenchPrompt
from localspec.gguf.header import read_header
from scripts.bench.measure.engines import ask_engine
from scripts.bench.measure.machine import about
from scripts.bench.measure.prompts import WARM_UP, read_prompts, units_of
from scripts.bench.measure.records import Run, RunFile, Study, Unit, read
from scripts.bench.measure.schedule import Clock, in_turn, measure
from scripts.bench.measure.servers import Sampling
from scripts.bench.measure.statistics import interval
from scripts.bench.measure.tables import Table, number, percent

PLAIN = "plain"
_GREEDY = Sampling(temperature=0.0)
_BATCH = 256


@dataclass
class Way:
    """An engine with one drafter, or none."""

    name: str
    engine: localspec.Engine
    prompts: dict[str, BenchPrompt]
    n: int

    def answer(self, unit: Unit) -> Run:
        return ask_engine(self.engine, self.prompts[unit.prompt].messages, self.n, _GREEDY)

    @property
    def drafter(self) -> Any:
        """Return the draft model's context, which is private."""
        return self.engine._pair.drafters[-1]._context  # type: ignore[attr-defined]


@dataclass
class Seen:
    """A drafter along an answer: the count of its likeliest tokens that came next, and the seconds of each step."""

    right: int
    times: list[float]


def follow(ways: list[Way], prompt: list[int], answer: list[int]) -> dict[str, Seen]:
    """Feed ``answer`` after ``prompt`` to all drafters in turn, token by token as in drafting."""
    found = {way.name: Seen(0, []) for way in ways}
    for way in ways:
        way.drafter.rewind(0)
        for at in range(0, len(prompt) - 1, _BATCH):
            way.drafter.decode(prompt[at : min(at + _BATCH, len(prompt) - 1)], "none")
    for i, token in enumerate([prompt[-1], *answer[:-1]]):
        for way in in_turn(ways, i):
            began = time.perf_counter()
            likeliest = int(way.drafter.decode((token,), "last")[0].argmax())
            found[way.name].times.append(time.perf_counter() - began)
            found[way.name].right += likeliest == answer[i]
    return found


def look(book: RunFile, plain: Way, ways: list[Way], unit: Unit, known: set[tuple[str, str]]) -> None:
    """Note agreement and step times on the plain answer to ``unit``."""
    if all((unit.prompt, way.name) in known for way in ways):
        return
    messages = plain.prompts[unit.prompt].messages
    prompt = plain.engine.prompt_tokens(messages)
    answer = list(plain.engine.chat(messages, max_tokens=plain.n, temperature=0).tokens)
    if not answer:
        return
    for name, seen in follow(ways, prompt, answer).items():
        book.note(
            "drafter", prompt=unit.prompt, category=unit.category, name=name,
            right=seen.right, tokens=len(answer), step_s=median(seen.times),
        )  # fmt: skip
    for way in ways:
        way.engine.forget()


def report(study: Study) -> Table:
    """Return a row for each drafter, with per-prompt ratios to plain decoding and to the first drafter."""
    notes = [line for line in study.extra if line["kind"] == "drafter"]
    first = study.modes[1]
    rows = [(PLAIN, "–", "–", "–", number(median_rate(study, PLAIN), 1), "1", "–")]
    for mode in study.setting["modes"][1:]:
        name = mode["name"]
        own = {line["prompt"]: line for line in notes if line["name"] == name}
        tokens = sum(line["tokens"] for line in own.values())
        share = sum(line["right"] for line in own.values()) / tokens if tokens else None
        step = median(line["step_s"] for line in own.values()) if own else None
        rows.append(
            (
                name, number(mode["step_bytes"] / 1e6, 0), number(step and step * 1e3), percent(share, 1),
                number(median_rate(study, name), 1), ratio(study, name, PLAIN), ratio(study, name, first),
            )
        )  # fmt: skip
    header = ("drafter", "MB a step", "step ms", "agreement", "tok/s", "× plain", f"× {first}")
    note = f"{len(study.units)} prompts timed, {len({line['prompt'] for line in notes})} looked at; medians"
    return Table("Drafters for one target", header, tuple(rows), note)


def median_rate(study: Study, mode: str) -> float | None:
    rates = [runs[mode].rate for runs in study.units.values()]
    return median(rates) if rates else None


def ratio(study: Study, mode: str, other: str) -> str:
    found = interval([runs[mode].rate / runs[other].rate for runs in study.units.values() if runs[other].rate])
    return str(found) if found else "–"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-d", "--draft", action="append", required=True, help="may be repeated; the first is the whole")
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--category", action="append", default=[])
    parser.add_argument("--per-category", type=int, default=2)
    parser.add_argument("-n", "--tokens", type=int, default=160)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("-c", "--ctx-size", type=int, default=4096)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--out", type=Path, default=Path("trimmed.jsonl"))
    parser.add_argument("--no-times", action="store_true", help="no answers with drafters")
    parser.add_argument("--report", action="store_true")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    if given.report:
        for study in read(given.out):
            print(report(study).text())
        return
    names = [Path(draft).stem for draft in given.draft]
    modes = [{"name": PLAIN, "step_bytes": 0}]
    modes += [{"name": n, "step_bytes": step_bytes(read_header(d))} for n, d in zip(names, given.draft, strict=True)]
    setting = {"target": Path(given.model).name, "modes": modes, "n": given.tokens, "threads": given.threads}
    chosen = read_prompts(given.prompts, given.category)
    prompts = {prompt.id: prompt for prompt in chosen}
    units = units_of(chosen, given.per_category, 1)
    book = RunFile(given.out, setting, about())
    known = {(line["prompt"], line["name"]) for line in book.earlier.extra if line["kind"] == "drafter"}
    with ExitStack() as stack:
        ways = []
        for name, draft in zip([PLAIN, *names], ["none", *given.draft], strict=True):
            engine = localspec.load(given.model, draft, ctx_size=given.ctx_size, threads=given.threads)
            ways.append(Way(name, stack.enter_context(engine), prompts, given.tokens))
            ask_engine(engine, [{"role": "user", "content": WARM_UP}], 32, _GREEDY)
        if not given.no_times:
            measure(units, ways, book, Clock(given.minutes))
        for unit in units:
            look(book, ways[0], ways[1:], unit, known)
    print(report(book.study()).text())


if __name__ == "__main__":
    main()
