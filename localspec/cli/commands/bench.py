"""``localspec bench``: compare speed with and without drafting, here or at the costs of another machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from localspec.cli.bench.flags import BenchFlags
from localspec.cli.errors import INTERRUPTED
from localspec.cli.options.model import ModelOptions, model_options
from localspec.params import SamplingParams, StopParams

if TYPE_CHECKING:
    from localspec.bench.prompts import BenchPrompt

_PATH = click.Path(path_type=Path)


@click.command()
@model_options
@click.option(
    "-f", "--prompts", "prompts", metavar="FILE", type=_PATH,
    help='Prompts, a line {"id", "category", "messages"} each.  [default: 16 built-in ones of 8 categories]',
)  # fmt: skip
@click.option("--category", "categories", metavar="NAME", multiple=True, help="Only this category. May be repeated.")
@click.option("-n", "--max-tokens", type=int, metavar="N", default=128, show_default=True, help="Tokens of an answer.")
@click.option(
    "--repeat", type=click.IntRange(1, 1000), metavar="N", default=2, show_default=True, help="Passes over the prompts."
)
@click.option("--temp", "temperature", type=float, metavar="T", default=0.0, show_default=True, help="0 is greedy.")
@click.option("--seed", type=int, metavar="N", default=0, show_default=True, help="Seed, where T is not 0.")
@click.option("--raw", is_flag=True, help="Send the prompts without the chat template.")
@click.option(
    "--traces", metavar="FILE", type=_PATH,
    help="Record the guesses of each drafter at each token to FILE, and measure nothing.",
)  # fmt: skip
@click.option(
    "--simulate", metavar="CURVE",
    help="Replay traces at the costs of another machine: a file of 'localspec tune --save', or one of the examples "
    "cpu, cpu-avx512 and gpu. If the FILE of --traces exists, its traces are read and no model is needed.",
)  # fmt: skip
@click.option("--plot", metavar="FILE", type=_PATH, help="Also draw the ratios to FILE.svg.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def bench(
    models: ModelOptions,
    prompts: Path | None,
    categories: tuple[str, ...],
    max_tokens: int,
    repeat: int,
    temperature: float,
    seed: int,
    raw: bool,
    traces: Path | None,
    simulate: str | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Answer prompts with drafting and without, in turns on the same engine, and compare the speed.

    Each ratio has its 95% confidence interval. Close other programs first. Ctrl-C ends the measurement and prints the
    results so far.
    """
    SamplingParams(temperature=temperature, seed=seed)
    StopParams(max_tokens)
    flags = BenchFlags(max_tokens, temperature, seed, raw, repeat, models.draft_max, plot, as_json)
    flags.check()
    if simulate is not None:
        _simulate(flags, models, simulate, traces, (prompts, categories))
    elif traces is not None:
        _record(flags, models, traces, _prompts(prompts, categories))
    else:
        _measure(flags, models, _prompts(prompts, categories))


def _prompts(path: Path | None, categories: tuple[str, ...]) -> list[BenchPrompt]:
    from localspec.bench.prompts import choose, read_prompts

    return choose(read_prompts(path), categories)


def _measure(flags: BenchFlags, models: ModelOptions, prompts: list[BenchPrompt]) -> None:
    from localspec.cli.bench.output import print_pairs
    from localspec.cli.bench.run import drafting_engine, measure_pairs

    with drafting_engine(models) as engine:
        pairs, finished = measure_pairs(engine, prompts, flags)
        print_pairs(engine, pairs, flags)
    _exit_unless(finished)


def _record(flags: BenchFlags, models: ModelOptions, path: Path, prompts: list[BenchPrompt]) -> None:
    from localspec.cli.bench.run import check_new, drafting_engine, record, write_traces

    check_new(path)
    with drafting_engine(models) as engine:
        found, finished = record(engine, prompts, flags)
    write_traces(path, found)
    _exit_unless(finished)


def _simulate(
    flags: BenchFlags,
    models: ModelOptions,
    curve_name: str,
    path: Path | None,
    selection: tuple[Path | None, tuple[str, ...]],
) -> None:
    """Replay the traces of a file, or record them first (and write them, where a file is named)."""
    from localspec.bench.curves import read_curve
    from localspec.bench.trace import read_traces
    from localspec.cli.bench.output import print_simulation
    from localspec.cli.bench.run import check_new, drafting_engine, record, write_traces

    curve, measured, finished = read_curve(curve_name), None, True
    if path is not None and path.exists():
        found = [trace for trace in read_traces(path) if trace.category in selection[1] or not selection[1]]
    else:
        chosen = _prompts(*selection)
        if path is not None:
            check_new(path)
        with drafting_engine(models) as engine:
            found, finished = record(engine, chosen, flags)
            measured = engine.costs
        if path is not None:
            write_traces(path, found)
    done = print_simulation(found, curve, measured, flags)
    _exit_unless(finished and done)


def _exit_unless(finished: bool) -> None:
    if not finished:
        raise click.exceptions.Exit(INTERRUPTED)
