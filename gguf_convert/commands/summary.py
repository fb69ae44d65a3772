"""Summary of a written file, on standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from localspec.files import size_text

if TYPE_CHECKING:
    from gguf_convert import Report


def print_report(report: Report) -> None:
    """Print notes and a summary."""
    for note in report.notes:
        click.echo(f"Note: {note}", err=True)
    click.echo(_summary(report), err=True)


def _summary(report: Report) -> str:
    """Return one line: path, type, size, and the tensors of other types."""
    facts = f"{report.architecture}, {report.type}, {report.tensors} tensors, {size_text(report.bytes)}"
    line = f"Wrote {report.path} ({facts})."
    for reason in sorted({fallback.reason for fallback in report.fallbacks}):
        same = [fallback for fallback in report.fallbacks if fallback.reason == reason]
        line += f" {len(same)} of them are {same[0].type}: {reason}."
    return line
