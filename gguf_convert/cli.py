"""The command line of the converter: ``localspec convert`` and ``python -m gguf_convert`` are this one function."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gguf_convert.check import check
from gguf_convert.convert import Progress, Report, convert


def run(folder: Path, out: Path, type: str, *, force: bool, verify: bool) -> None:
    """Convert, with a progress bar on a terminal, and end with one line on stderr."""
    with _progress_bar(f"Converting to {type.upper()}") as progress:
        report = convert(folder, out, type, force=force, progress=progress)
    click.echo(summary(report), err=True)
    if verify:
        with _progress_bar("Checking") as progress:
            checked = check(folder, out, progress=progress)
        click.echo(f"Checked {checked.tensors} tensors: all values within the error bound of their type.", err=True)


def summary(report: Report) -> str:
    """One line: what was written, how large, and what fell back to another type."""
    line = (
        f"Wrote {report.path} ({report.architecture}, {report.type}, {report.tensors} tensors, {_size(report.bytes)})."
    )
    for reason in sorted({fallback.reason for fallback in report.fallbacks}):
        same = [fallback for fallback in report.fallbacks if fallback.reason == reason]
        line += f" {len(same)} of them are {same[0].type}: {reason}."
    return line


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


class _progress_bar:  # noqa: N801  (used like the function it wraps)
    """A click progress bar over bytes; silent where stderr is not a terminal."""

    def __init__(self, label: str) -> None:
        self._bar = click.progressbar(length=1, label=label, file=sys.stderr, hidden=not sys.stderr.isatty())

    def __enter__(self) -> Progress:
        bar = self._bar.__enter__()

        def progress(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        return progress

    def __exit__(self, *exc: object) -> None:
        self._bar.render_finish()
