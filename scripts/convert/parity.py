#!/usr/bin/env python3
"""Print how far llama.cpp on converted files is from transformers, for every stored reference, as a Markdown table.

python -m scripts.convert.parity                    # the references of the tests; no torch
python -m scripts.convert.parity --reference DIR    # those of make_gemma4_references --scale 4 --out DIR
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import gguf

from tests.helpers import parity
from tests.helpers.paths import REFERENCE


def table_row(name: str, folder: Path, root: Path) -> str:
    found = parity.run(name, folder, root)
    fields = gguf.GGUFReader(folder / f"{name}.gguf").fields
    result = parity.compare(found, parity.expected(name, root), str(fields["general.architecture"].contents()))
    size = sum(path.stat().st_size for path in (root / name).glob("*.safetensors"))
    cells = [
        result.label,
        f"`{result.architecture}`",
        f"{size / 1e6:.1f}",
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
    options = parser.parse_args()
    heads = ["checkpoint", "architecture", "MB", "rows", "largest logit"]
    heads += ["difference", "relative", "same details", "relative", "drafts", "same details"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    with tempfile.TemporaryDirectory() as folder:
        for name in parity.references(options.reference):
            if name.startswith(options.only or ""):
                print(table_row(name, Path(folder), options.reference), flush=True)


if __name__ == "__main__":
    main()
