"""Results of a study as data: what was measured, its tables and aims. Kept as JSON in ``docs/data``.

The page and its tables are made of these files alone, so anyone can make them again.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from localspec.bench.plot.charts import IntervalRow
from scripts.bench.measure import contexts_report, memory_report, peers_report, transformers_report
from scripts.bench.measure.memory_report import Peaks
from scripts.bench.measure.peers_report import OURS_AUTO, OURS_PLAIN, Aim
from scripts.bench.measure.records import Study
from scripts.bench.measure.statistics import Ratio, best_peer, ratio
from scripts.bench.measure.tables import Table

#: Share of the cores used by other programs from which a result carries a warning.
_BUSY = 0.05
#: A list of texts and numbers in JSON, which is kept on one line.
_ROW = re.compile(r'\[(\s*("(\\.|[^"\\])*"|[-+.\w]+),?)+\s*\]')


@dataclass(frozen=True)
class Result:
    """One study. ``kind``: ``peers``, ``contexts``, ``transformers``, ``memory`` or ``text``.

    ``name`` is the file's name without its ending. ``over_plain`` and ``over_peer`` are a category's ratio of automatic
    drafting to plain decoding and to the best mode of llama-server, with the ends of its interval.
    """

    kind: str
    name: str
    title: str
    about: str = ""
    command: str = ""
    conditions: str = ""
    tables: tuple[Table, ...] = ()
    aims: tuple[Aim, ...] = ()
    over_plain: tuple[IntervalRow, ...] = ()
    over_peer: tuple[IntervalRow, ...] = ()
    text: str = ""

    def save(self, folder: Path) -> Path:
        """Write the JSON file."""
        path = folder / f"{self.name}.json"
        values = {key: value for key, value in asdict(self).items() if value}
        text = json.dumps(values, indent=1, ensure_ascii=False)
        path.write_text(_ROW.sub(lambda row: json.dumps(json.loads(row[0]), ensure_ascii=False), text) + "\n", "utf-8")
        return path

    def table(self, title: str) -> Table:
        """Return the table of that title. Raises StopIteration if there is none."""
        return next(table for table in self.tables if table.title == title)


def load(path: Path) -> Result:
    """Read a JSON file of :meth:`Result.save`."""
    values = json.loads(path.read_text(encoding="utf-8"))
    tables = [Table(one["title"], tuple(one["header"]), tuple(map(tuple, one["rows"])), one["note"])
              for one in values.pop("tables", ())]  # fmt: skip
    aims = [Aim(**{**one, "ratio": one["ratio"] and Ratio(**one["ratio"])}) for one in values.pop("aims", ())]
    ratios: dict[str, Any] = {key: tuple(map(tuple, values.pop(key, ()))) for key in ("over_plain", "over_peer")}
    return Result(tables=tuple(tables), aims=tuple(aims), **ratios, **values)


def load_all(folder: Path) -> list[Result]:
    """Read all results of a folder in the order of their names."""
    return [load(path) for path in sorted(folder.glob("*.json"))]


def peers_result(study: Study, name: str) -> Result:
    """Make the result ``name`` of a study against llama-server."""
    heat = study.setting.get("temperature", 0)
    how = f"temperature {heat:g}, nothing truncated" if heat else "greedy"
    prompts = len({unit.prompt for unit in study.units})
    complete = {OURS_AUTO, OURS_PLAIN} <= set(study.modes)
    return Result(
        "peers",
        name,
        titled("Against llama-server", name, "peers"),
        about_study(study),
        command_of(study.metas[-1] if study.metas else {}),
        f"{pair_name(study.setting)}, {counted(study.setting['threads'], 'thread')}, at most {study.setting['n']} "
        f"tokens, {how}, {counted(prompts, 'prompt')}, {counted(len(study.units), 'round')} in all",
        tuple(peers_report.tables(study)),
        tuple(peers_report.aims(study)),
        tuple(interval_rows(study, "plain")) if complete else (),
        tuple(interval_rows(study, "peer")) if complete else (),
    )


def interval_rows(study: Study, base: str) -> Iterator[IntervalRow]:
    """Yield each category's ratio of automatic drafting to ``plain`` decoding or to the best ``peer``."""
    for category in study.categories:
        other = OURS_PLAIN if base == "plain" else best_peer(study, category)
        value = ratio(study, OURS_AUTO, other, category) if other else None
        if value:
            yield category, value.median, value.low, value.high


def contexts_result(study: Study, name: str) -> Result:
    """Make the result ``name`` of a study over lengths of context and numbers of threads."""
    return Result(
        "contexts",
        name,
        titled("Context and threads", name, "contexts"),
        about_study(study),
        command_of(study.metas[-1] if study.metas else {}),
        pair_name(study.setting),
        tables=(contexts_report.table(study),),
    )


def transformers_result(study: Study, name: str) -> Result:
    """Make the result ``name`` of a study against transformers' assisted generation."""
    return Result(
        "transformers",
        name,
        titled("The built-in pair against transformers' assisted generation", name, "transformers"),
        about_study(study),
        command_of(study.metas[-1] if study.metas else {}),
        tables=(transformers_report.table(study),),
    )


def memory_result(peaks: Peaks, name: str) -> Result:
    """Make the result ``name`` of peak memory with one pair and context."""
    return Result(
        "memory",
        name,
        titled("Memory", name, "memory"),
        about_line(peaks.about),
        command_of(peaks.about),
        f"{peaks.pair}, context of {peaks.ctx} tokens",
        (memory_report.table(peaks),),
        tuple(memory_report.aims(peaks)),
    )


def text_result(title: str, path: Path) -> Result:
    """Keep the output of another script as it is."""
    return Result("text", path.stem, title, text=path.read_text(encoding="utf-8").strip())


def titled(title: str, name: str, kind: str) -> str:
    """Return a title with the name of its result, if that says more than its kind."""
    return title if name == kind else f"{title}: {name}"


def pair_name(setting: dict[str, Any]) -> str:
    """Return the names of target and drafter."""
    return " with ".join(Path(str(one[0])).stem for one in (setting.get("model"), setting.get("draft")) if one)


def about_study(study: Study) -> str:
    """Describe when and on what a study was measured."""
    last = study.metas[-1] if study.metas else {}
    dates = sorted({meta["date"][:10] for meta in study.metas})
    return about_line({**last, "date": ", ".join(dates)})


def about_line(about: dict[str, Any]) -> str:
    """Join machine, date and versions; warn if other programs were busy."""
    parts = [about.get("machine"), about.get("date"), f"localspec at {about.get('commit') or 'an unrecorded revision'}",
             about.get("llama_cpp") and f"llama-cpp-python {about['llama_cpp']}"]  # fmt: skip
    busy = about.get("busy")
    warning = f" **Other programs used {busy:.0%} of the cores.**" if busy is not None and busy > _BUSY else ""
    return "; ".join(str(part) for part in parts if part) + "." + warning


def command_of(about: dict[str, Any]) -> str:
    """Return the command without the folders of this machine."""
    words = [Path(word).name if word.startswith("/") else word for word in shlex.split(about.get("command", ""))]
    return f"python {shlex.join(words)}" if words else ""


def counted(n: int, what: str) -> str:
    """Format a count with its noun."""
    return f"{n} {what}{'' if n == 1 else 's'}"
