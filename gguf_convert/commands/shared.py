"""The command line of the converter, for ``localspec convert`` and ``python -m gguf_convert``.

Imports nothing that takes time until a conversion runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

import gguf_convert
from gguf_convert.recipes import make_recipe
from localspec.files import size_text

_Command = TypeVar("_Command", bound=Callable[..., Any])


def recipe_options(command: _Command) -> _Command:
    """``--type``, ``--for``, ``--exact``, ``--imatrix``, ``-t``, ``--force``: what both commands take."""
    options = (
        click.option(
            "--type",
            "kind",
            type=click.Choice([*gguf_convert.TYPES, "Q5_K", "Q4_K", "Q3_K"], case_sensitive=False),
            metavar="TYPE",
            help=f"One of llama.cpp's types: {', '.join(gguf_convert.TYPES)}.",
        ),
        click.option(
            "--for",
            "role",
            type=click.Choice(gguf_convert.ROLES),
            help="A recipe for speculation: a target with exact rows, or a drafter with a cheap head. [Q4_0]",
        ),
        click.option(
            "--exact",
            is_flag=True,
            help="Only types in which a batch is computed as its rows are, on a CPU. [Q4_0, or --type Q8_0]",
        ),
        click.option(
            "--imatrix",
            metavar="FILE",
            type=click.Path(path_type=Path),
            help="Importance matrix, of 'localspec imatrix' or llama-imatrix.",
        ),
        click.option(
            "-t",
            "--threads",
            metavar="N",
            type=click.IntRange(min=1),
            help="Threads of llama.cpp's quantiser.  [default: all]",
        ),
        click.option("--force", is_flag=True, help="Replace what exists."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def check_option(command: _Command) -> _Command:
    """``--verify``, also by its older name."""
    return click.option(
        "--verify", "--check", "verify", is_flag=True, help="Read back what was written and compare it with DIR."
    )(command)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("-o", "--output", "out", metavar="FILE", type=click.Path(path_type=Path), required=True, help="To write.")
@recipe_options
@check_option
def convert(folder: Path, out: Path, verify: bool, **options: Any) -> None:
    """Convert a Hugging Face checkpoint to GGUF, in Q8_0 unless told otherwise.

    DIR holds config.json, tokenizer.json and safetensors.
    """
    convert_one(folder, out, **options)
    if verify:
        check_one(folder, out)


def convert_one(folder: Path, out: Path, **options: Any) -> None:
    """Convert, with a progress bar, notes and a summary on standard error."""
    kind, role, exact = options.pop("kind"), options["role"], options["exact"]
    label = make_recipe(kind or (None if role or exact else "Q8_0"), role=role, exact=exact).label
    with progress_bar(f"Converting to {label}") as progress:
        report = gguf_convert.convert(folder, out, kind, **options, progress=progress)
    tell(report)


def check_one(folder: Path, out: Path) -> None:
    """Compare a file with its checkpoint, with a progress bar and a line on standard error."""
    with progress_bar("Checking") as progress:
        checked = gguf_convert.check(folder, out, progress=progress)
    click.echo(f"Checked {checked.tensors} tensors: every value is as close as its type allows.", err=True)


def tell(report: gguf_convert.Report) -> None:
    """Notes and a summary on standard error."""
    for note in report.notes:
        click.echo(f"Note: {note}", err=True)
    click.echo(summary(report), err=True)


def summary(report: gguf_convert.Report) -> str:
    """One line: what was written, how large, and what fell back to another type."""
    what = f"{report.architecture}, {report.type}, {report.tensors} tensors, {size_text(report.bytes)}"
    line = f"Wrote {report.path} ({what})."
    for reason in sorted({fallback.reason for fallback in report.fallbacks}):
        same = [fallback for fallback in report.fallbacks if fallback.reason == reason]
        line += f" {len(same)} of them are {same[0].type}: {reason}."
    return line


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar fed with (done, total); silent where stderr is not a terminal."""
    with click.progressbar(length=1, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:

        def progress(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield progress


@contextmanager
def step_bar(label: str) -> Iterator[Callable[[gguf_convert.Step], None]]:
    """A progress bar of a quantisation: bytes written and tensors begun."""
    with click.progressbar(
        length=1, label=label, file=sys.stderr, hidden=not sys.stderr.isatty(), item_show_func=_step
    ) as bar:

        def progress(step: gguf_convert.Step) -> None:
            bar.length = max(1, step.all_bytes)
            bar.update(step.bytes - bar.pos, step)

        yield progress


def _step(step: Any) -> str | None:
    if step is None:
        return None
    return f"{size_text(step.bytes)} of {size_text(step.all_bytes)}, tensor {step.tensors} of {step.all_tensors}"
