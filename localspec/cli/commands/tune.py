"""``localspec tune``: measures at length what passes cost here, keeps it for the pair, and shows it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from localspec.cli.errors import tell
from localspec.cli.options.shared import ModelOptions, model_options

if TYPE_CHECKING:
    from localspec.bench.curves import NamedCosts
    from localspec.bench.plot.charts import Series
    from localspec.bench.plot.shapes import Picture
    from localspec.control.costs import Costs
    from localspec.engine import Engine

_PATH = click.Path(path_type=Path)
_HEIGHT, _WIDEST_PLOT = 14, 100


@click.command(short_help="Measure what passes cost here, at length.")
@model_options
@click.option("--name", metavar="NAME", help="What the curve is called.  [default: the target's name]")
@click.option("--save", metavar="CURVE.json", type=_PATH, help="Keep the costs in a file for 'bench --simulate'.")
@click.option("--plot", metavar="FILE", type=_PATH, help="Draw the curve to FILE.svg as well.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object in place of tables and plot.")
def tune(models: ModelOptions, name: str | None, save: Path | None, plot: Path | None, as_json: bool) -> None:
    """Measure how long the target takes for n tokens at once, and its drafter for each.

    A pair is measured in a second or two when it is first loaded; this takes its time, and what it finds is used from
    then on. Close other programs first.
    """
    from localspec.bench.curves import NamedCosts
    from localspec.bench.machine import machine
    from localspec.bench.plot.files import check_folder, check_picture, save_picture, write_file

    if plot is not None:
        check_picture(plot)
    if save is not None:
        check_folder(save)
    from localspec.cli.engine import open_engine

    with open_engine(models) as engine:
        costs = _measure(engine)
        curve = NamedCosts(name or _called(engine), machine(), costs, engine.guard.widest)
    if save is not None:
        write_file(save, (json.dumps(curve.to_dict(), indent=1) + "\n").encode())
        tell(f"wrote {save}.")
    if plot is not None:
        save_picture(plot, _picture(curve))
        tell(f"wrote {plot}.")
    _show(curve, as_json)


def _called(engine: Engine) -> str:
    from localspec.models.hub.names import short_name

    return short_name(engine.model.name)


def _measure(engine: Engine) -> Costs:
    """Ctrl-C ends the program: half a curve is of no use, and the old one is kept."""
    from localspec.cli.terminal.interrupt import listening, silent_keys
    from localspec.cli.terminal.progress import Progress

    with silent_keys(), Progress("Measuring", sys.stderr) as bar, listening() as stop:

        def progress(done: float) -> None:
            stop.check()
            bar.fraction(done)

        return engine.tune(progress)


def _show(curve: NamedCosts, as_json: bool) -> None:
    from localspec.bench.report import wrapped
    from localspec.bench.tuning import best_depths_dict, tune_lines
    from localspec.cli.terminal.style import columns

    if as_json:
        click.echo(json.dumps({**curve.to_dict(), "best": best_depths_dict(curve.costs, curve.widest)}))
        return
    from localspec.bench.plot.terminal import can_show, plot_lines

    width = columns(sys.stdout)
    unicode = can_show(sys.stdout.encoding)
    wide = min(width, _WIDEST_PLOT) - 1
    lines = [
        *wrapped(f"{curve.name} on {curve.machine}", width),
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
    """Which curve is which, by what a token costs at its end: braille has no marks."""
    ranked = sorted(series, key=lambda one: one.points[-1][1] / one.points[-1][0], reverse=True)
    return ", then ".join(one.name for one in ranked) + ", from above"


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

    return line_chart(f"{curve.name}: what a pass costs", "tokens of a pass", "milliseconds", _series(curve))
