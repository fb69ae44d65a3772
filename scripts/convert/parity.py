#!/usr/bin/env python3
"""Print how far llama.cpp on converted files is from transformers, for every stored reference, as a Markdown table.

python -m scripts.convert.parity                    # the references of the tests; no torch
python -m scripts.convert.parity --media [--flash]  # the same text models behind pictures and sounds
python -m scripts.convert.parity --reference DIR    # those of make_gemma4_references --scale 4 --out DIR
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import gguf

from tests.helpers import media_run, parity
from tests.helpers.media_prompt import TARGETS
from tests.helpers.paths import REFERENCE


def table_row(name: str, folder: Path, root: Path) -> str:
    found = parity.run(name, folder, root)
    fields = gguf.GGUFReader(folder / f"{name}.gguf").fields
    result = parity.compare(found, parity.expected(name, root), str(fields["general.architecture"].contents()))
    size = sum(path.stat().st_size for path in (root / name).glob("*.safetensors"))
    return format_row([result.label, f"`{result.architecture}`", f"{size / 1e6:.1f}"], result)


def format_row(cells: list[str], result: parity.Parity) -> str:
    cells = [
        *cells,
        str(result.rows),
        f"{result.scale:.1f}",
        *(f"{value:.2g}" for value in (result.as_is.absolute, result.as_is.relative)),
        *(f"{value:.2g}" for value in (result.same.absolute, result.same.relative)),
        *(f"{good}/{count}" if count else "" for good, count in (result.drafts, result.drafts_same)),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, default=REFERENCE, help="folder of the references")
    parser.add_argument("--only", help="only references whose names begin with this")
    parser.add_argument("--media", action="store_true", help="behind pictures and sounds")
    parser.add_argument("--flash", action="store_true", help="with flash attention, for --media")
    options = parser.parse_args()
    heads = ["checkpoint", *([] if options.media else ["architecture", "MB"]), "rows", "largest logit"]
    heads += ["difference", "relative", "same details", "relative", "drafts", "same details"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name in TARGETS if options.media else ():
        with tempfile.TemporaryDirectory() as folder:
            targets, drafts = media_run.parity(name, Path(folder), flash=options.flash)
            print(format_row([targets.label], targets))
            if drafts is not None:
                print(format_row([f"{targets.label}, drafts"], drafts), flush=True)
    if options.media:
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in parity.references(options.reference):
            if name.startswith(options.only or ""):
                print(table_row(name, Path(folder), options.reference), flush=True)


if __name__ == "__main__":
    main()
