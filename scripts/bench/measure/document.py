"""docs/benchmarks.md and its pictures, made from raw results: nothing in them is typed by hand."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localspec.bench.curves import read_curve
from localspec.bench.plot.charts import IntervalRow, Series, interval_chart, line_chart
from localspec.bench.plot.shapes import Picture
from localspec.control.costs import Curve
from scripts.bench.measure import contexts_report, memory_report, peers_report, transformers_report
from scripts.bench.measure.memory_report import Peaks
from scripts.bench.measure.peers_report import OURS_AUTO, OURS_PLAIN, Verdict
from scripts.bench.measure.records import Study
from scripts.bench.measure.statistics import best_peer, ratio
from scripts.bench.measure.tables import Table

_BUSY = 0.05
INTRODUCTION = """\
# Benchmarks

Made by `scripts/bench/make_page.py` from raw results; the words about what fell short come from the same numbers.

**How it is measured.** Every mode answers a prompt before the next prompt comes, in rotating order, so that a slow
minute of the machine hits all of them. A ratio is one of two answers to one prompt; tables give the median over the
prompts (of a prompt's repeats, their median) and a 95% interval of bootstrapped medians. With a few prompts in a
category these intervals are wide and rough. Beside llama-server plain decoding is the engine of automatic drafting
with its drafters left out: the same weights at two places in memory differ by 2% in speed. Against another process that
luck remains, and between the modes of contexts and of transformers, which have an engine each.

**What is counted, on both sides.** A rate is all tokens but the first (the end token included) over the time from
the first to the last. llama-server counts so itself (`predicted_per_second`). Its drafter reads the prompt together
with the target, within `prompt_ms` and outside that time; localspec's reads it when it is first asked, if ever,
within that time. So long prompts count against localspec's rates with a draft model, and not against
llama-server's; the ratios of whole answers, timed by the caller with the prompt included, count both. The server
decodes the same prompt tokens, reuses nothing (`cache_prompt` false), keeps no old prompts (`--cache-ram 0`),
samples greedily in the cheapest way that it has (`top_k` 1), and answers a text that is in no prompt file before it
is timed, as localspec does. `ngram-mod` keeps n-grams from one request to the next, as it does for its users; it is
started anew for each pass, since a prompt asked twice would find its own answer. Caches are each side's default
(F16 and F16 there, Q8_0 and F16 here), so some answers differ; the tables of drafts count those that do not.
"""


@dataclass
class Document:
    """Markdown and pictures by file name, and which aims the sections spoke of."""

    parts: list[str] = field(default_factory=list)
    pictures: dict[str, Picture] = field(default_factory=dict)
    verdicts: list[tuple[str, Verdict]] = field(default_factory=list)

    def text(self) -> str:
        """The whole, what fell short first."""
        return "\n\n".join([INTRODUCTION.rstrip(), short_of(self.verdicts), *self.parts]) + "\n"

    def picture(self, name: str, picture: Picture) -> None:
        while name in self.pictures:
            name = name.replace(".svg", "-more.svg")
        self.pictures[name] = picture
        self.parts.append(f"![{picture.title}](img/{name})")

    def table(self, table: Table, *, titled: bool = True) -> None:
        self.parts.append((f"**{table.title}.**\n\n" if titled else "") + table.markdown())


def short_of(found: Sequence[tuple[str, Verdict]]) -> str:
    """What fell short, in words; and what is met only within its interval."""
    lines = ["## What fell short"]
    if found:
        lines.append(f"{sum(one.met for _, one in found)} of {len(found)} aims are met.")
    lines += sentences("Missed", [(pair, one) for pair, one in found if not one.met])
    narrowly = [(pair, one) for pair, one in found if one.met and not one.sure]
    return "\n\n".join([*lines, *sentences("Met, but the interval reaches beyond the aim", narrowly)])


def sentences(title: str, found: Sequence[tuple[str, Verdict]]) -> list[str]:
    """A list for each pair of models."""
    lists = []
    for pair in dict.fromkeys(name for name, _ in found):
        items = "\n".join(f"- {one.sentence()}" for name, one in found if name == pair)
        lists.append(f"{title}, {pair}:\n\n{items}")
    return lists


def add_peers(document: Document, study: Study) -> None:
    """A study against llama-server: charts of the two ratios, and all tables."""
    setting = study.setting
    name = pair_name(setting)
    heat = setting.get("temperature", 0)
    how = "sampled, nothing truncated" if heat else "greedy"
    prompts = counted(len({unit.prompt for unit in study.units}), "prompt")
    document.parts.append(
        f"## {name} against llama-server{f', temperature {heat:g}' if heat else ''}\n\n{measured(study)}\n\n"
        f"{counted(setting['threads'], 'thread')}, at most {setting['n']} tokens, {how}, {prompts}, "
        f"{counted(len(study.units), 'round')} in all."
    )
    if {OURS_AUTO, OURS_PLAIN} <= set(study.modes):
        slug = slug_of(f"{name} {f't{heat:g}' if heat else ''} {setting['threads']}")
        for kind, told in (("plain", "automatic over plain decoding"), ("peer", "automatic over llama-server's best")):
            rows = chart_rows(study, kind)
            if rows:
                picture = interval_chart(f"{name}: {told}", "ratio of tokens a second", rows, mark=1.0)
                document.picture(f"{slug}-{kind}.svg", picture)
        label = f"{name}{f' at temperature {heat:g}' if heat else ''}"
        document.verdicts += [(label, one) for one in peers_report.verdicts(study)]
    for table in peers_report.tables(study):
        document.table(table)


def chart_rows(study: Study, kind: str) -> list[IntervalRow]:
    """A category's ratio of automatic to ``plain`` decoding or to the best ``peer``."""
    rows = []
    for category in study.categories:
        base = OURS_PLAIN if kind == "plain" else best_peer(study, category)
        value = ratio(study, OURS_AUTO, base, category) if base else None
        if value:
            rows.append((category, value.median, value.low, value.high))
    return rows


def add_transformers(document: Document, study: Study) -> None:
    document.parts.append(f"## The built-in pair and transformers' assisted generation\n\n{measured(study)}")
    document.table(transformers_report.table(study), titled=False)


def add_contexts(document: Document, study: Study) -> None:
    name = pair_name(study.setting)
    document.parts.append(f"## Context and threads: {name}\n\n{measured(study)}")
    series = contexts_report.curves(study)
    if series:
        picture = line_chart(f"{name}: automatic over plain decoding", "tokens in front", "ratio of rates", series)
        document.picture(f"{slug_of(name)}-contexts.svg", picture)
    document.table(contexts_report.table(study), titled=False)


def add_memory(document: Document, found: Sequence[Peaks]) -> None:
    for peaks in found:
        document.parts.append(f"## Memory: {peaks.pair}\n\n{about_line(peaks.about)}\n\n{command_of(peaks.about)}")
        document.table(memory_report.table(peaks))
        document.verdicts += [(peaks.pair, one) for one in memory_report.verdicts(peaks)]


def add_curve(document: Document, path: Path) -> None:
    """What passes cost: a table and a picture of a curve, a file of ``localspec tune --save`` or an example's name."""
    named = read_curve(str(path))
    costs = named.costs
    series = [curve_series("target: verify", costs.verify)]
    series += [curve_series(f"{name}: first pass", one.first) for name, one in costs.drafters.items()]
    document.parts.append(f"## What passes cost: {named.name}\n\n{named.machine}.")
    picture = line_chart(f"Cost of a pass, {named.name}", "tokens in the pass", "milliseconds", series)
    document.picture(f"curve-{slug_of(named.name)}.svg", picture)
    head = ("", *(str(width) for width in costs.verify.widths))
    base = costs.verify.times[0]
    rows = (
        ("ms", *(f"{1000 * time:.1f}" for time in costs.verify.times)),
        ("passes of one token", *(f"{time / base:.2f}" for time in costs.verify.times)),
    )
    steps = [f"{name} {1000 * one.step:.1f} ms" for name, one in costs.drafters.items()]
    note = f"Each further draft token: {', '.join(steps)}." if steps else ""
    document.table(Table("Verify width", head, rows, note), titled=False)


def curve_series(name: str, curve: Curve) -> Series:
    return Series(name, tuple((float(n), 1000 * time) for n, time in zip(curve.widths, curve.times, strict=True)))


def add_extra(document: Document, title: str, path: Path) -> None:
    """What another script printed: Markdown as it is, other text as a block."""
    text = path.read_text(encoding="utf-8").strip()
    document.parts.append(f"## {title}\n\n" + (text if path.suffix == ".md" else f"```\n{text}\n```"))


def pair_name(setting: dict[str, Any]) -> str:
    names = [Path(str(one[0])).stem for one in (setting.get("model"), setting.get("draft")) if one]
    return " with ".join(names)


def measured(study: Study) -> str:
    """When and where, and the command."""
    last = study.metas[-1] if study.metas else {}
    dates = sorted({meta["date"][:10] for meta in study.metas})
    return f"{about_line({**last, 'date': ', '.join(dates)})}\n\n{command_of(last)}"


def about_line(about: dict[str, Any]) -> str:
    parts = [about.get("machine"), about.get("date"), about.get("commit") and f"localspec at {about['commit']}",
             about.get("llama_cpp") and f"llama-cpp-python {about['llama_cpp']}"]  # fmt: skip
    busy = about.get("busy")
    warning = f" **Other programs used {busy:.0%} of the cores.**" if busy is not None and busy > _BUSY else ""
    return "; ".join(str(part) for part in parts if part) + "." + warning


def command_of(about: dict[str, Any]) -> str:
    """The command that was run, without the folders of this machine."""
    words = [Path(word).name if word.startswith("/") else word for word in shlex.split(about.get("command", ""))]
    return f"```sh\npython {shlex.join(words)}\n```" if words else ""


def counted(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def slug_of(text: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in text.lower()).split())
