"""The command line of the converter, for ``localspec convert`` and ``python -m gguf_convert``.

Imports nothing that takes time until a conversion runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

import gguf_convert


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "out",
    metavar="FILE",
    type=click.Path(path_type=Path),
    required=True,
    help="File to write.",
)
@click.option(
    "--type",
    "kind",
    type=click.Choice(gguf_convert.TYPES, case_sensitive=False),
    default="Q8_0",
    show_default=True,
    help="Type of the matrices; everything else stays F32.",
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@click.option("--check", "verify", is_flag=True, help="Read FILE back and compare every value with DIR.")
def convert(folder: Path, out: Path, kind: str, force: bool, verify: bool) -> None:
    """Convert a Hugging Face checkpoint to GGUF.

    DIR holds config.json, tokenizer.json and safetensors of a dense Gemma 4 model or of its assistant.
    """
    with _progress_bar(f"Converting to {kind}") as progress:
        report = gguf_convert.convert(folder, out, kind, force=force, progress=progress)
    for note in report.notes:
        click.echo(f"Note: {note}", err=True)
    click.echo(summary(report), err=True)
    if verify:
        with _progress_bar("Checking") as progress:
            checked = gguf_convert.check(folder, out, progress=progress)
        click.echo(f"Checked {checked.tensors} tensors: every value is as close as its type allows.", err=True)


def summary(report: gguf_convert.Report) -> str:
    """One line: what was written, how large, and what fell back to another type."""
    what = f"{report.architecture}, {report.type}, {report.tensors} tensors, {_size(report.bytes)}"
    line = f"Wrote {report.path} ({what})."
    for reason in sorted({fallback.reason for fallback in report.fallbacks}):
        same = [fallback for fallback in report.fallbacks if fallback.reason == reason]
        line += f" {len(same)} of them are {same[0].type}: {reason}."
    return line


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


@contextmanager
def _progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar fed with (done, total); silent where stderr is not a terminal."""
    with click.progressbar(length=1, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:

        def progress(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield progress
