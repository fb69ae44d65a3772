"""``localspec trim-draft``: make a drafter whose output head has only the frequent tokens."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gguf_convert.commands.options import PATH
from localspec.cli.options.values import ModelName
from localspec.files import size_text

if TYPE_CHECKING:
    from gguf_convert import TrimReport


@click.command("trim-draft")
@click.argument("source", metavar="IN", type=ModelName())
@click.argument("out", metavar="OUT", type=PATH)
@click.option(
    "--keep", metavar="N", type=click.IntRange(min=1), default=16384, show_default=True, help="Tokens to keep."
)
@click.option(
    "--from",
    "texts",
    metavar="TEXT",
    type=PATH,
    multiple=True,
    help="Rank tokens by their frequency in this file, or in the text files of this folder; may be repeated. "
    "[default: the order of the tokenizer]",
)
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
def trim_draft(source: str, out: Path, keep: int, texts: tuple[Path, ...], force: bool) -> None:
    """Write a drafter OUT that drafts only the N most frequent tokens of the model IN, and those of the text at hand.

    A draft step then reads less: the head is up to two thirds of a small model. Tokens that the drafter lacks come from
    the target, so the output stays the same. Special tokens and one for each byte are always kept. OUT is no smaller
    than IN: it also holds the whole embedding and head, of which single rows are read. Use it with -d OUT.
    """
    from gguf_convert.output.files import check_destination
    from gguf_convert.trimming.texts import check_exist
    from gguf_convert.trimming.trim import check_trimmable, trim
    from localspec.cli.terminal.progress import ProgressBar
    from localspec.gguf.header import read_header
    from localspec.models.resolve import resolve_model
    from localspec.probe.load_test import try_files

    check_destination(out, force)
    check_exist(texts)
    path = resolve_model(source)
    check_trimmable(header := read_header(path))
    for notice in try_files(header.path):
        click.echo(f"Note: {notice}", err=True)
    with ProgressBar("Counting tokens", sys.stderr) as bar:
        report = trim(path, out, keep, texts, progress=bar.count, force=force)
    click.echo("\n".join(lines(report)), err=True)


def lines(report: TrimReport) -> list[str]:
    """Return a summary."""
    now, before = report.step_bytes
    summary = [
        f"Wrote {report.path} ({report.kept} of {report.vocabulary} tokens, {size_text(report.bytes)}).",
        f"A draft step reads {size_text(now)} in place of {size_text(before)} ({now / before:.0%}).",
    ]
    if report.ranking is None:
        return [
            *summary,
            "Tokens are kept in the order of the tokenizer; --from TEXT selects those of your kind of text.",
        ]
    text = f"{report.ranking.files} files, {size_text(report.ranking.bytes)}"
    return [*summary, f"{report.covered:.2%} of the tokens of the text ({text}) are kept."]
