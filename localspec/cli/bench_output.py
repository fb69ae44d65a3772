"""What ``localspec bench`` prints and draws, from what was measured or replayed."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from localspec.cli.collect import collect
from localspec.cli.errors import tell

if TYPE_CHECKING:
    from localspec.bench.curves import NamedCosts
    from localspec.bench.paired import PairedRun
    from localspec.bench.plot.charts import IntervalRow
    from localspec.bench.simulation import CategoryComparison
    from localspec.bench.summary import Interval, Summary
    from localspec.bench.trace import Trace
    from localspec.control.costs import Costs
    from localspec.engine import Engine


@dataclass(frozen=True)
class Job:
    """What was asked of the command, and where its results go."""

    max_tokens: int
    temperature: float
    seed: int
    raw: bool
    repeat: int
    draft_max: int | None
    plot: Path | None
    as_json: bool

    def check(self) -> None:
        """Raise for a picture that cannot be written, before anything is measured."""
        if self.plot is not None:
            from localspec.bench.plot.files import check_picture

            check_picture(self.plot)

    def settings(self) -> dict[str, Any]:
        """Of every answer."""
        fields = ("max_tokens", "temperature", "seed", "raw", "repeat", "draft_max")
        return {name: getattr(self, name) for name in fields}


def bench_output(engine: Engine, pairs: Sequence[PairedRun], job: Job) -> None:
    """Tables or JSON on standard output, and the picture."""
    from localspec.bench.machine import machine
    from localspec.bench.report import bench_lines, memory_line, wrapped
    from localspec.bench.summary import summaries
    from localspec.cli.report import set_up
    from localspec.cli.terminal.style import columns
    from localspec.llama.host import peak_memory

    found, peak = summaries(pairs), peak_memory()
    if job.as_json:
        about = {
            "target": engine.model.name,
            "drafters": list(engine.drafters),
            "exactness": engine.exactness,
            "machine": machine(),
            "settings": job.settings(),
            "peak_memory": peak,
            **_by_category(found),
            "runs": [pair.to_dict() for pair in pairs],
        }
        click.echo(json.dumps(about))
    elif pairs:
        width = columns(sys.stdout)
        click.echo("\n".join([*wrapped(set_up(engine), width), *bench_lines(found, width), *memory_line(peak)]))
    if found:
        _draw(job, f"{engine.model.name}: drafting over plain decoding", [(s.category, s.ratio) for s in found])


def simulation_output(traces: Sequence[Trace], curve: NamedCosts, here: Costs | None, job: Job) -> bool:
    """Replay, and print what came of it. False where Ctrl-C ended it early; what was replayed is printed."""
    from localspec.bench.curves import match_costs
    from localspec.bench.report import wrapped
    from localspec.bench.simulation import compare_categories, compare_traces, simulation_lines
    from localspec.cli.terminal.style import columns
    from localspec.errors import InputError

    if not traces:
        raise InputError("there is no trace to replay; look at --category, or record some with --traces FILE.")
    named = dict.fromkeys(name for trace in traces for name in trace.guesses)
    matched = match_costs(curve, list(named), here)
    for notice in matched.notices:
        tell(notice)
    widest = curve.widest if job.draft_max is None else min(curve.widest, job.draft_max + 1)
    replays = compare_traces(traces, matched.costs, matched.sources, widest)
    replayed, finished = collect("Replaying", lambda _: replays, len(traces), "traces")
    found = compare_categories(replayed)
    if job.as_json:
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
        _draw(job, f"Drafting over plain decoding at the costs of {curve.name}", [(s.category, s.ratio) for s in found])
    return finished


def _by_category(found: Sequence[Summary] | Sequence[CategoryComparison]) -> dict[str, Any]:
    """The categories, and all of them, for JSON."""
    return {
        "categories": [one.to_dict() for one in found if one.category != "all" or len(found) == 1],
        "overall": found[-1].to_dict() if found else None,
    }


def _draw(job: Job, title: str, rows: Sequence[tuple[str, Interval]]) -> None:
    if job.plot is None:
        return
    from localspec.bench.plot.charts import interval_chart
    from localspec.bench.plot.files import save_picture
    from localspec.bench.report import interval_text

    def row(name: str, ratio: Interval) -> IntervalRow:
        if ratio.low is None or ratio.high is None or interval_text(ratio) == "-":
            return (name, ratio.value, ratio.value, ratio.value)
        return (name, ratio.value, ratio.low, ratio.high)

    save_picture(job.plot, interval_chart(title, "times as fast", [row(*one) for one in rows], mark=1.0))
    tell(f"wrote {job.plot}.")
