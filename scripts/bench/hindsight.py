#!/usr/bin/env python3
"""Compares automatic drafting with the best fixed choice in hindsight, prompt by prompt, from recorded traces.

    localspec bench -m TARGET.gguf -d DRAFT.gguf -f PROMPTS.jsonl -n 160 --traces traces.jsonl
    localspec tune -m TARGET.gguf -d DRAFT.gguf --save here.json
    python -m scripts.bench.hindsight traces.jsonl here.json

Both are replayed at the costs of the curve (a file of ``localspec tune --save``, or an example's name). A fixed choice
is one drafter at one depth for the whole answer, or none; the best is picked for each prompt, after the fact. Needs no
model and no quiet machine.
"""

from __future__ import annotations

import argparse
import sys
from statistics import median

from localspec.bench.curves import match_costs, read_curve
from localspec.bench.report import aligned
from localspec.bench.simulation import TraceComparison, compare_categories, compare_traces, simulation_lines
from localspec.bench.trace import read_traces
from localspec.errors import LocalspecError

_AIM = 0.95


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", help="file of localspec bench --traces")
    parser.add_argument("curve", help="file of localspec tune --save, or an example's name")
    parser.add_argument("--category", action="append", default=[], help="this one only; may be repeated")
    parser.add_argument("--widest", type=int, help="passes at most so wide  [default: the curve's]")
    args = parser.parse_args()
    try:
        curve, traces = read_curve(args.curve), read_traces(args.traces)
        fit = match_costs(curve, list(dict.fromkeys(name for trace in traces for name in trace.guesses)), None)
    except LocalspecError as error:
        sys.exit(str(error))
    for notice in fit.notices:
        print(notice, file=sys.stderr)
    found: list[TraceComparison] = []
    chosen = [trace for trace in traces if trace.category in args.category or not args.category]
    for one in compare_traces(chosen, fit.costs, fit.sources, min(args.widest or curve.widest, curve.widest)):
        found.append(one)
        if sys.stderr.isatty():
            print(f"{len(found)} of {len(chosen)}", end="\r", file=sys.stderr)
    if not found:
        sys.exit(f"there is no trace of {', '.join(args.category) or 'any category'} in {args.traces}")
    print("\n".join(report(found)))


def report(found: list[TraceComparison]) -> list[str]:
    """Return a row for each prompt, the categories, and the aim."""
    rows = [
        (one.id, str(one.tokens), f"{one.ratio:.2f}", one.best, f"{one.plain_s / one.best_s:.2f}", f"{one.share:.3f}")
        for one in found
    ]
    met = sum(one.share >= _AIM for one in found)
    return [
        *aligned(("prompt", "tokens", "auto/plain", "best fixed", "best/plain", "auto/best"), rows),
        "",
        *simulation_lines(compare_categories(found), 80),
        "",
        f"auto/best of the prompts: median {median(one.share for one in found):.3f}, lowest "
        f"{min(one.share for one in found):.3f}; {met} of {len(found)} are at {_AIM} or more",
    ]


if __name__ == "__main__":
    main()
