"""Print measurements and simulations of ``localspec bench``, as text, JSON or a chart."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from localspec.cli.bench.flags import BenchFlags
from localspec.cli.terminal.collect import collect
from localspec.cli.terminal.notes import notice
from localspec.cli.terminal.style import columns

if TYPE_CHECKING:
    from localspec.bench.curves import NamedCosts
    from localspec.bench.paired import PairedRun
    from localspec.bench.plot.charts import IntervalRow
    from localspec.bench.simulation import CategoryComparison
    from localspec.bench.summary import Interval, Summary
    from localspec.bench.trace import Trace
    from localspec.control.costs import Costs
    from localspec.engine import Engine


def print_pairs(engine: Engine, pairs: Sequence[PairedRun], flags: BenchFlags) -> None:
    """Print the measured pairs and draw the chart."""
    from localspec.bench.machine import machine
    from localspec.bench.report import bench_lines, memory_line, wrapped
    from localspec.bench.summary import summaries
    from localspec.cli.terminal.answer_stats import engine_line
    from localspec.llama.host import peak_memory

    found, peak = summaries(pairs), peak_memory()
    if flags.as_json:
        about = {
            "target": engine.model.name,
            "drafters": list(engine.drafters),
            "exactness": engine.exactness,
            "machine": machine(),
            "settings": flags.settings(),
            "peak_memory": peak,
            **_by_category(found),
            "runs": [pair.to_dict() for pair in pairs],
        }
        click.echo(json.dumps(about))
    elif pairs:
        width = columns(sys.stdout)
        click.echo("\n".join([*wrapped(engine_line(engine), width), *bench_lines(found, width), *memory_line(peak)]))
    if found:
        _draw(flags, f"{engine.model.name}: drafting over plain decoding", [(s.category, s.ratio) for s in found])


def print_simulation(traces: Sequence[Trace], curve: NamedCosts, measured: Costs | None, flags: BenchFlags) -> bool:
    """Replay traces at the costs of ``curve`` and print the result. False if Ctrl-C ended it early.

    ``measured``: the costs of this machine, for drafters that the curve has no costs of.
    """
    from localspec.bench.curves import match_costs
    from localspec.bench.report import wrapped
    from localspec.bench.simulation import compare_categories, compare_traces, simulation_lines
    from localspec.errors import InputError

    if not traces:
        raise InputError("there is no trace to replay; check --category, or record some with --traces FILE.")
    named = dict.fromkeys(name for trace in traces for name in trace.guesses)
    matched = match_costs(curve, list(named), measured)
    for sentence in matched.notices:
        notice(sentence)
    widest = curve.widest if flags.draft_max is None else min(curve.widest, flags.draft_max + 1)
    replays = compare_traces(traces, matched.costs, matched.sources, widest)
    replayed, finished = collect("Replaying", lambda _: replays, len(traces), "traces")
    found = compare_categories(replayed)
    if flags.as_json:
        about = {
            "curve": curve.name,
            "machine": curve.machine,
            "sources": list(matched.sources),
            **_by_category(found),
            "prompts": [one.to_dict() for one in replayed],
        }
        click.echo(json.dumps(about))
    elif found:
        width = columns(sys.stdout)
        lines = [*wrapped(f"{curve.name}: {curve.machine}", width), f"drafters {'+'.join(matched.sources)}"]
        click.echo("\n".join([*lines, *simulation_lines(found, width)]))
    if found:
        title = f"Drafting over plain decoding at the costs of {curve.name}"
        _draw(flags, title, [(s.category, s.ratio) for s in found])
    return finished


def _by_category(found: Sequence[Summary] | Sequence[CategoryComparison]) -> dict[str, Any]:
    """The categories and their total, for JSON."""
    return {
        "categories": [one.to_dict() for one in found if one.category != "all" or len(found) == 1],
        "overall": found[-1].to_dict() if found else None,
    }


def _draw(flags: BenchFlags, title: str, rows: Sequence[tuple[str, Interval]]) -> None:
    if flags.plot is None:
        return
    from localspec.bench.plot.charts import interval_chart
    from localspec.bench.plot.files import save_picture
    from localspec.bench.report import interval_text

    def row(name: str, ratio: Interval) -> IntervalRow:
        if ratio.low is None or ratio.high is None or interval_text(ratio) == "-":
            return (name, ratio.value, ratio.value, ratio.value)
        return (name, ratio.value, ratio.low, ratio.high)

    save_picture(flags.plot, interval_chart(title, "times as fast", [row(*one) for one in rows], mark=1.0))
    notice(f"wrote {flags.plot}.")
