#!/usr/bin/env python3
"""Makes docs/benchmarks.md, its chart and docs/data/tables.md of the results in docs/data.

    python -m scripts.bench.make_page
    python -m scripts.bench.make_page --peers q4_0.jsonl --contexts contexts.jsonl --memory memory.jsonl \\
        --transformers transformers.jsonl --text "Hindsight=hindsight.txt"

The files named on the command line are raw results of scripts.bench.peers, contexts, memory and transformers_pair
(``.jsonl.gz`` too), and output of other scripts. They become files of docs/data first, beside a
compressed copy of the raw results.
"""

from __future__ import annotations

import argparse
import gzip
from collections.abc import Iterator
from pathlib import Path

from localspec.bench.plot.svg import svg
from scripts.bench.measure.document import CHART, TABLES, chart, page, tables
from scripts.bench.measure.machine import ROOT
from scripts.bench.measure.memory_report import read_peaks
from scripts.bench.measure.records import read
from scripts.bench.measure.results import (
    Result,
    contexts_result,
    load_all,
    memory_result,
    peers_result,
    text_result,
    transformers_result,
)

STUDIES = {"peers": peers_result, "contexts": contexts_result, "transformers": transformers_result}


def new_results(arguments: argparse.Namespace) -> Iterator[tuple[Result, Path]]:
    """Yield the results of the raw files, each with its file; a second study of a file gets a number."""
    for kind, make in STUDIES.items():
        for path in getattr(arguments, kind):
            studies = [study for study in read(path) if study.units]
            yield from ((make(study, name_of(path, i)), path) for i, study in enumerate(studies))
    for path in arguments.memory:
        yield from ((memory_result(peaks, name_of(path, i)), path) for i, peaks in enumerate(read_peaks(path)))
    for text in arguments.text:
        title, _, file = text.partition("=")
        yield text_result(title, Path(file)), Path(file)


def name_of(path: Path, number: int) -> str:
    """Return the name of a result: that of its raw file."""
    stem = path.name.partition(".")[0]
    return f"{stem}-{number + 1}" if number else stem


def keep_raw(path: Path, folder: Path) -> None:
    """Copy raw results into ``folder``, compressed."""
    data = path.read_bytes()
    name = path.name if path.suffix == ".gz" else f"{path.name}.gz"
    (folder / name).write_bytes(data if path.suffix == ".gz" else gzip.compress(data, mtime=0))


def write(docs: Path) -> None:
    """Write the page, the chart and the tables of the results in ``docs/data``."""
    results = load_all(docs / "data")
    (docs / CHART).parent.mkdir(exist_ok=True)
    (docs / CHART).write_bytes(svg(chart(results)))
    (docs / TABLES).write_text(tables(results), encoding="utf-8")
    (docs / "benchmarks.md").write_text(page(results), encoding="utf-8")
    print(f"{docs / 'benchmarks.md'}: {len(results)} results")


def main() -> None:
    arguments = options()
    data = arguments.docs / "data"
    data.mkdir(parents=True, exist_ok=True)
    for result, path in new_results(arguments):
        result.save(data)
        if result.kind != "text":
            keep_raw(path, data)
    write(arguments.docs)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in (*STUDIES, "memory"):
        parser.add_argument(f"--{name}", type=Path, nargs="+", default=[], metavar="FILE")
    parser.add_argument("--text", action="append", default=[], metavar="TITLE=FILE")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder to write into")
    return parser.parse_args()


if __name__ == "__main__":
    main()
