"""Measure pairs of answers, record traces, read and write trace files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from localspec.cli.bench.flags import BenchFlags
from localspec.cli.options.model import ModelOptions
from localspec.cli.terminal.collect import collect
from localspec.cli.terminal.notes import notice
from localspec.errors import InputError, UsageError

if TYPE_CHECKING:
    from localspec.bench.paired import BenchOptions, PairedRun
    from localspec.bench.prompts import BenchPrompt
    from localspec.bench.trace import Trace
    from localspec.engine import Engine


def drafting_engine(models: ModelOptions) -> Engine:
    """Load an engine with a drafter. Raises :class:`UsageError` if there is none to compare."""
    from localspec.cli.model.load import load_engine

    if models.draft == "none":
        raise UsageError("with `-d none` there is nothing to compare; leave it out.")
    if models.ngram_file is not None:
        notice("--ngram-file is left out: the second answer to a prompt would be drafted from the first.")
    engine = load_engine(replace(models, ngram_file=None), measured=True)
    if not engine.drafters:
        engine.close()
        raise UsageError(f"no drafter was found for {models.model}, so there is nothing to compare.")
    return engine


def measure_pairs(engine: Engine, prompts: list[BenchPrompt], flags: BenchFlags) -> tuple[list[PairedRun], bool]:
    """Answer each prompt with and without drafting. Returns the pairs, and False if Ctrl-C ended it early."""
    from localspec.bench.paired import check_prompts, paired_runs, warm_up
    from localspec.bench.summary import rate

    total = flags.repeat * len(prompts)

    def make(check: Callable[[], None]) -> Iterator[PairedRun]:
        options = _options(flags, check)
        check_prompts(engine, prompts, options)
        warm_up(engine, options)
        yield from paired_runs(engine, prompts, flags.repeat, options)

    def line(number: int, pair: PairedRun) -> str:
        plain, auto = rate([pair.plain]), rate([pair.auto])
        return f"{number} of {total}, {pair.prompt}: {plain:.1f} -> {auto:.1f} tokens/s"

    return collect("Measuring", make, total, "pairs", line)


def record(engine: Engine, prompts: list[BenchPrompt], flags: BenchFlags) -> tuple[list[Trace], bool]:
    """A trace of each prompt with a long enough answer, and False if Ctrl-C ended it early."""
    from localspec.bench.paired import check_prompts
    from localspec.bench.recording import traces

    def make(check: Callable[[], None]) -> Iterator[Trace | None]:
        options = _options(flags, check)
        check_prompts(engine, prompts, options)
        yield from traces(engine, prompts, options)

    def line(number: int, _: Trace | None) -> str:
        return f"{number} of {len(prompts)} recorded."

    found, finished = collect("Recording", make, len(prompts), "prompts", line)
    return [trace for trace in found if trace], finished


def check_new(path: Path) -> None:
    """Raise :class:`InputError` if a trace file exists or cannot be written."""
    from localspec.bench.plot.files import check_folder

    if path.exists():
        raise InputError(f"{path} exists already; remove it first, give another name, or add --simulate to read it.")
    check_folder(path)


def write_traces(path: Path, found: list[Trace]) -> None:
    """Write traces to a file. Raises :class:`InputError` if there are none."""
    from localspec.bench.plot.files import write_file
    from localspec.bench.trace import trace_lines

    if not found:
        raise InputError("no answer was long enough for a trace; nothing was written.")
    write_file(path, "".join(trace_lines(found)).encode())
    tokens = sum(len(trace.tokens) for trace in found)
    notice(f"wrote {path}: {len(found)} traces, {tokens} tokens.")


def _options(flags: BenchFlags, check: Callable[[], None]) -> BenchOptions:
    from localspec.bench.paired import BenchOptions

    return BenchOptions(flags.max_tokens, flags.temperature, flags.seed, flags.raw, check)
