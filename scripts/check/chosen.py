#!/usr/bin/env python3
"""Print which passes ``--exactness prefer`` chooses for files, and what it knew of them.

    python -m scripts.check.chosen -m FILE.gguf [FILE.gguf ...] [-t 1]

All is read from a loaded and measured pair with lookup: the choice, its notice, and the comparisons of passes of any
width. Costs and differences of padded passes are measured in the same way as the program does, also for widths that it
does not come to. The cost is the time of a pass in passes of one row.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import localspec
from localspec.engine import Engine
from localspec.llama.context import LlamaContext
from localspec.params import PROBE_CTX, PROBE_WIDTH
from localspec.probe.batch_invariance import TEXT
from localspec.probe.exactness import Known, known_invariance
from localspec.probe.fixed_width import PaddedFindings, measure_cost, probe_padded

#: Widths of padded passes that are measured.
WIDTHS = (2, 4, 8)


def row(engine: Engine, context: LlamaContext) -> str:
    """The line of the table on a measured pair."""
    known = Known.recall(context)
    found = known_invariance(context, known.rows, PROBE_WIDTH)
    text = context.model.vocabulary.tokenize(TEXT, add_special=False)
    padded = PaddedFindings(dict(known.padded.costs), dict(known.padded.differences))
    for width in WIDTHS:
        probe_padded(context, text, padded, only=width)
        if width not in padded.costs:
            padded.costs[width] = measure_cost(context, text, width)
    context.rewind(0)
    timed = ", ".join(map(str, sorted(known.padded.costs))) or "none"
    each = [f"{padded.costs[width]:.2f}{_differs(padded.differences[width])}" for width in WIDTHS]
    beyond = f"differ by up to {found.difference:.2g}" if found.difference else "may differ: a float matrix"
    unpadded = f"exact up to {found.width}" if found.exact else f"exact up to {found.width}; wider ones {beyond}"
    chosen = f"padded to {engine.passes.width}" if engine.passes.width > 1 else f"up to {engine.passes.widest}"
    place = "GPU" if context.model.placement.gpu else "CPU"
    cells = [context.model.path.name, place, unpadded, *each, timed, f"{engine.exactness}, {chosen}"]
    return f"| {' | '.join(cells)} | {' '.join(engine.notices)} |"


def _differs(difference: float) -> str:
    return f" (differs: {difference:.2g})" if difference else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--models", nargs="+", required=True)
    parser.add_argument("-t", "--threads", type=int)
    parser.add_argument("--exactness", choices=("prefer", "require"), default="prefer")
    arguments = parser.parse_args()
    costs = [f"{width} rows" for width in WIDTHS]
    names = ["file", "on", "passes of any width", *costs, "widths that it timed", "chosen", "notice"]
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}", flush=True)
    for name in arguments.models:
        target = name if name == "tiny" else Path(name).expanduser()
        with localspec.load(
            target, "ngram", ctx_size=PROBE_CTX, threads=arguments.threads, exactness=arguments.exactness
        ) as engine:
            engine.measure()
            assert isinstance(engine._target, LlamaContext)
            print(row(engine, engine._target), flush=True)


if __name__ == "__main__":
    main()
