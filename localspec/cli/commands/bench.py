"""``localspec bench``: what drafting brings with this pair here, or what it would bring on another machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from localspec.cli.bench_output import Job, bench_output, simulation_output
from localspec.cli.collect import collect
from localspec.cli.errors import INTERRUPTED, tell
from localspec.cli.options.shared import ModelOptions, model_options
from localspec.params import SamplingParams, StopParams

if TYPE_CHECKING:
    from localspec.bench.paired import BenchOptions, PairedRun
    from localspec.bench.prompts import BenchPrompt
    from localspec.bench.trace import Trace
    from localspec.engine import Engine

_PATH = click.Path(path_type=Path)


@click.command(short_help="Measure what drafting brings.")
@model_options
@click.option(
    "-f", "--prompts", "prompts", metavar="FILE", type=_PATH,
    help='A line {"id", "category", "messages"} for each prompt.  [default: 16 built-in ones, of 8 categories]',
)  # fmt: skip
@click.option("--category", "categories", metavar="NAME", multiple=True, help="This category only; may be repeated.")
@click.option("-n", "--max-tokens", type=int, metavar="N", default=128, show_default=True, help="Tokens of an answer.")
@click.option(
    "--repeat", type=click.IntRange(1, 1000), metavar="N", default=2, show_default=True, help="Passes over the prompts."
)
@click.option("--temp", "temperature", type=float, metavar="T", default=0.0, show_default=True, help="0 is greedy.")
@click.option("--seed", type=int, metavar="N", default=0, show_default=True, help="Of the sampling, where T is not 0.")
@click.option("--raw", is_flag=True, help="Send the prompts without the chat template.")
@click.option(
    "--traces", metavar="FILE", type=_PATH,
    help="Record what the drafter would have guessed at each token, in place of measuring.",
)  # fmt: skip
@click.option(
    "--simulate", metavar="CURVE",
    help="Replay traces at the costs of another machine: a file of 'localspec tune --save', or one of the examples "
    "cpu, cpu-avx512 and gpu. Reads --traces FILE where it is there, and then needs no model.",
)  # fmt: skip
@click.option("--plot", metavar="FILE", type=_PATH, help="Draw the ratios to FILE.svg as well.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object in place of tables.")
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

    The interval after a ratio holds the true one in 95 of 100 such measurements. Close other programs first. Ctrl-C
    ends it and prints what was measured so far.
    """
    SamplingParams(temperature=temperature, seed=seed)
    StopParams(max_tokens)
    job = Job(max_tokens, temperature, seed, raw, repeat, models.draft_max, plot, as_json)
    job.check()
    if simulate is not None:
        _simulate(job, models, simulate, traces, (prompts, categories))
        return
    chosen = _prompts(prompts, categories)
    if traces is not None:
        _check_new(traces)
        with _engine(models) as engine:
            found, finished = _record(engine, chosen, job)
        _write_traces(traces, found)
        _leave(finished)
        return
    with _engine(models) as engine:
        pairs, finished = _measure(engine, chosen, job)
        bench_output(engine, pairs, job)
    _leave(finished)


def _leave(finished: bool) -> None:
    if not finished:
        raise click.exceptions.Exit(INTERRUPTED)


def _prompts(path: Path | None, categories: tuple[str, ...]) -> list[BenchPrompt]:
    from localspec.bench.prompts import choose, read_prompts

    return choose(read_prompts(path), categories)


def _engine(models: ModelOptions) -> Engine:
    """An engine that drafts; there is nothing to compare with one that does not."""
    from localspec.cli.engine import open_engine
    from localspec.errors import UsageError

    if models.draft == "none":
        raise UsageError("with `-d none` there is nothing to compare; leave it out.")
    if models.ngram_file is not None:
        tell("--ngram-file is left out: the second answer to a prompt would be drafted from the first.")
    engine = open_engine(replace(models, ngram_file=None))
    if not engine.drafters:
        engine.close()
        raise UsageError(f"nothing can draft for {models.model}, so there is nothing to compare.")
    return engine


def _options(job: Job, check: Any) -> BenchOptions:
    from localspec.bench.paired import BenchOptions

    return BenchOptions(job.max_tokens, job.temperature, job.seed, job.raw, check)


def _measure(engine: Engine, prompts: list[BenchPrompt], job: Job) -> tuple[list[PairedRun], bool]:
    """The pairs, and whether all were made: Ctrl-C leaves those that were finished."""
    from localspec.bench.paired import check_prompts, paired_runs, warm_up
    from localspec.bench.summary import rate

    total = job.repeat * len(prompts)

    def make(check: Callable[[], None]) -> Iterator[PairedRun]:
        options = _options(job, check)
        check_prompts(engine, prompts, options)
        warm_up(engine, options)
        yield from paired_runs(engine, prompts, job.repeat, options)

    def told(number: int, pair: PairedRun) -> str:
        plain, auto = rate([pair.plain]), rate([pair.auto])
        return f"{number} of {total}, {pair.prompt}: {plain:.1f} -> {auto:.1f} tokens/s"

    return collect("Measuring", make, total, "pairs", told)


def _record(engine: Engine, prompts: list[BenchPrompt], job: Job) -> tuple[list[Trace], bool]:
    """A trace of each prompt whose answer is long enough, and whether all were made."""
    from localspec.bench.paired import check_prompts
    from localspec.bench.recording import traces

    def make(check: Callable[[], None]) -> Iterator[Trace | None]:
        options = _options(job, check)
        check_prompts(engine, prompts, options)
        yield from traces(engine, prompts, options)

    def told(number: int, _: Trace | None) -> str:
        return f"{number} of {len(prompts)} recorded."

    found, finished = collect("Recording", make, len(prompts), "prompts", told)
    return [trace for trace in found if trace], finished


def _check_new(path: Path) -> None:
    from localspec.bench.plot.files import check_folder
    from localspec.errors import InputError

    if path.exists():
        raise InputError(f"{path} is there already; remove it first, give another name, or add --simulate to read it.")
    check_folder(path)


def _write_traces(path: Path, found: list[Trace]) -> None:
    from localspec.bench.plot.files import write_file
    from localspec.bench.trace import trace_lines
    from localspec.errors import InputError

    if not found:
        raise InputError("no answer was long enough for a trace; nothing was written.")
    write_file(path, "".join(trace_lines(found)).encode())
    tokens = sum(len(trace.tokens) for trace in found)
    tell(f"wrote {path}: {len(found)} traces, {tokens} tokens.")


def _simulate(
    job: Job, models: ModelOptions, name: str, path: Path | None, which: tuple[Path | None, tuple[str, ...]]
) -> None:
    """From the traces of a file, or from such as are recorded now (and kept, where a file is named)."""
    from localspec.bench.curves import read_curve
    from localspec.bench.trace import read_traces

    curve, here, finished = read_curve(name), None, True
    if path is not None and path.exists():
        found = [trace for trace in read_traces(path) if trace.category in which[1] or not which[1]]
    else:
        chosen = _prompts(*which)
        if path is not None:
            _check_new(path)
        with _engine(models) as engine:
            found, finished = _record(engine, chosen, job)
            here = engine.costs
        if path is not None:
            _write_traces(path, found)
    done = simulation_output(found, curve, here, job)
    _leave(finished and done)
