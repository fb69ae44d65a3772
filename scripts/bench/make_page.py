#!/usr/bin/env python3
"""Writes docs/benchmarks.md and its pictures from raw results.

    python -m scripts.bench.make_page --peers q4_0.jsonl q4_k_m.jsonl t1.jsonl --transformers transformers.jsonl \\
        --contexts contexts.jsonl --memory memory.jsonl --curve curve.json --extra "Hindsight=hindsight.txt"

The files are those of scripts.bench.peers, scripts.bench.transformers_pair, scripts.bench.contexts,
scripts.bench.memory and of ``localspec tune --save``; ``.jsonl.gz`` is read too. ``--extra TITLE=FILE`` adds what
another script printed. Sections without a file are left out, and named at the end.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from localspec.bench.plot.svg import svg
from scripts.bench.measure.document import (
    Document,
    add_contexts,
    add_curve,
    add_extra,
    add_memory,
    add_peers,
    add_transformers,
)
from scripts.bench.measure.machine import ROOT
from scripts.bench.measure.memory_report import read_peaks
from scripts.bench.measure.records import read

SECTIONS = ("peers", "contexts", "transformers", "memory", "curve")


def build(arguments: argparse.Namespace) -> Document:
    """All sections that there are results for."""
    document = Document()
    for study in read(*arguments.peers):
        if study.units:
            add_peers(document, study)
    for study in read(*arguments.contexts):
        if study.units:
            add_contexts(document, study)
    for study in read(*arguments.transformers):
        if study.units:
            add_transformers(document, study)
    for path in arguments.memory:
        add_memory(document, read_peaks(path))
    for path in arguments.curve:
        add_curve(document, path)
    for extra in arguments.extra:
        title, _, file = extra.partition("=")
        add_extra(document, title, Path(file))
    missing = [name for name in SECTIONS if not getattr(arguments, name)]
    if missing:
        document.parts.append(f"Not measured here: {', '.join(missing)}.")
    return document


def main() -> None:
    arguments = options()
    document = build(arguments)
    images = arguments.out.parent / "img"
    images.mkdir(parents=True, exist_ok=True)
    for name, picture in document.pictures.items():
        (images / name).write_bytes(svg(picture))
    arguments.out.write_text(document.text(), encoding="utf-8")
    print(f"{arguments.out}: {len(document.parts)} parts, {len(document.pictures)} pictures in {images}")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in SECTIONS:
        parser.add_argument(f"--{name}", type=Path, nargs="+", default=[])
    parser.add_argument("--extra", action="append", default=[], metavar="TITLE=FILE")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
