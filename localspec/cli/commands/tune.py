"""``localspec tune``: measure the cost of a pass on this machine, keep it for the pair, and show it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from localspec.cli.options.model import ModelOptions, model_options
from localspec.cli.terminal.notes import notice
from localspec.models.hub.names import short_name

if TYPE_CHECKING:
    from localspec.bench.curves import NamedCosts
    from localspec.bench.plot.charts import Series
    from localspec.bench.plot.shapes import Picture
    from localspec.control.costs import Costs
    from localspec.engine import Engine

_PATH = click.Path(path_type=Path)
#: Lines and most columns of the plot.
_HEIGHT, _WIDEST_PLOT = 14, 100


@click.command()
@model_options
@click.option("--name", metavar="NAME", help="Name of the curve.  [default: the target's name]")
@click.option("--save", metavar="CURVE.json", type=_PATH, help="Write the costs to a file for 'bench --simulate'.")
@click.option("--plot", metavar="FILE", type=_PATH, help="Also draw the curve to FILE.svg.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables and a plot.")
def tune(models: ModelOptions, name: str | None, save: Path | None, plot: Path | None, as_json: bool) -> None:
    """Measure the time of a pass of the target over n tokens, and of a draft token.

    A pair is measured for a few seconds between its first answers; this measurement is longer and more precise, and
    is used from then on. Close other programs first.
    """
    from localspec.bench.curves import NamedCosts
    from localspec.bench.machine import machine
    from localspec.bench.plot.files import check_folder, check_picture, save_picture, write_file

    if plot is not None:
        check_picture(plot)
    if save is not None:
        check_folder(save)
    from localspec.cli.model.load import load_engine

    with load_engine(models, measured=True) as engine:
        costs = _measure(engine)
        passes = engine.passes
        curve = NamedCosts(name or short_name(engine.model.name), machine(), costs, passes.widest)
    if save is not None:
        write_file(save, (json.dumps(curve.to_dict(), indent=1) + "\n").encode())
        notice(f"wrote {save}.")
    if plot is not None:
        save_picture(plot, _picture(curve))
        notice(f"wrote {plot}.")
    _show(curve, passes.width, as_json)


def _measure(engine: Engine) -> Costs:
    """Measure; Ctrl-C ends the program, and the old costs are kept."""
    from localspec.cli.terminal.interrupt import catching_interrupts, silent_keys
    from localspec.cli.terminal.progress import ProgressBar

    with silent_keys(), ProgressBar("Measuring", sys.stderr) as bar, catching_interrupts() as interrupt:

        def progress(done: float) -> None:
            interrupt.check()
            bar.fraction(done)

        return engine.tune(progress)


def _show(curve: NamedCosts, pass_width: int, as_json: bool) -> None:
    from localspec.bench.report import wrapped
    from localspec.bench.tuning import best_depths_dict, tune_lines
    from localspec.cli.terminal.style import columns

    if as_json:
        best = best_depths_dict(curve.costs, curve.widest)
        click.echo(json.dumps({**curve.to_dict(), "pass_width": pass_width, "best": best}))
        return
    from localspec.bench.plot.terminal import can_show, plot_lines

    width = columns(sys.stdout)
    unicode = can_show(sys.stdout.encoding)
    wide = min(width, _WIDEST_PLOT) - 1
    lines = [
        *wrapped(f"{curve.name} on {curve.machine}", width),
        *(wrapped(f"Every pass is padded to {pass_width} rows, so all take the same time.", width) * (pass_width > 1)),
        "",
        *tune_lines(curve.costs, curve.widest, width),
        "",
        "ms",
    ]
    series = _series(curve)
    lines += plot_lines(series, "tokens of a pass", wide, _HEIGHT, unicode=unicode)
    if len(series) > 1:
        lines.append(_order(series) if unicode else _legend(series))
    click.echo("\n".join(lines))


def _order(series: list[Series]) -> str:
    """The curves from top to bottom, by the cost of a token at their ends: braille has no marks."""
    ranked = sorted(series, key=lambda one: one.points[-1][1] / one.points[-1][0], reverse=True)
    return "from the top: " + ", ".join(one.name for one in ranked)


def _legend(series: list[Series]) -> str:
    from localspec.bench.plot.terminal import MARKS

    return ", ".join(f"{mark} {one.name}" for mark, one in zip(MARKS, series, strict=False))


def _series(curve: NamedCosts) -> list[Series]:
    from localspec.bench.plot.charts import Series

    def points(widths: tuple[int, ...], times: tuple[float, ...]) -> tuple[tuple[float, float], ...]:
        return tuple((n, 1000 * t) for n, t in zip(widths, times, strict=True))

    verify = curve.costs.verify
    found = [Series("target", points(verify.widths, verify.times))]
    for name, one in curve.costs.drafters.items():
        if len(one.first.widths) > 1:
            found.append(Series(f"drafter {name}", points(one.first.widths, one.first.times)))
    return found


def _picture(curve: NamedCosts) -> Picture:
    from localspec.bench.plot.charts import line_chart

    return line_chart(f"{curve.name}: cost of a pass", "tokens of a pass", "milliseconds", _series(curve))
