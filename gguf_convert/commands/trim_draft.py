"""``localspec trim-draft``: a drafter whose output head keeps only the tokens that matter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from gguf_convert.trimming import TrimReport

_PATH = click.Path(path_type=Path)


@click.command("trim-draft")
@click.argument("source", metavar="IN")
@click.argument("out", metavar="OUT", type=_PATH)
@click.option(
    "--keep", metavar="N", type=click.IntRange(min=1), default=16384, show_default=True, help="Tokens to keep."
)
@click.option(
    "--from",
    "texts",
    metavar="TEXT",
    type=_PATH,
    multiple=True,
    help="Rank tokens by how often they occur in this file, or in the text files of this folder; may be repeated. "
    "[default: the tokenizer's own order]",
)
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
def trim_draft(source: str, out: Path, keep: int, texts: tuple[Path, ...], force: bool) -> None:
    """Write the model IN as the drafter OUT, which says the N most frequent tokens only, and those of the text at hand.

    A draft step then reads less: the head is up to two thirds of a small model. What the drafter cannot say the target
    says; the output stays the same. Special tokens and one for each byte are always kept. OUT is no smaller than IN: it
    also holds the whole embedding and head, of which single rows are read. Use it with -d OUT.
    """
    from gguf_convert.commands.shared import progress_bar
    from gguf_convert.files import check_destination
    from gguf_convert.trim_vocabulary import folders_exist
    from gguf_convert.trimming import check_trimmable, trim
    from localspec.gguf.header import read_header
    from localspec.models.resolve import resolve_model
    from localspec.probe.load_test import try_files

    check_destination(out, force)
    folders_exist(texts)
    path = resolve_model(source)
    check_trimmable(header := read_header(path))
    for notice in try_files(header.path):
        click.echo(f"Note: {notice}", err=True)
    with progress_bar("Counting tokens") as progress:
        report = trim(path, out, keep, texts, progress=progress, force=force)
    click.echo("\n".join(lines(report)), err=True)


def lines(report: TrimReport) -> list[str]:
    """What was made, for people."""
    from localspec.files import size_text

    now, before = report.step_bytes
    said = [
        f"Wrote {report.path} ({report.kept} of {report.vocabulary} tokens, {size_text(report.bytes)}).",
        f"A draft step reads {size_text(now)} in place of {size_text(before)} ({now / before:.0%}).",
    ]
    if report.ranking is None:
        return [*said, "Tokens are kept in the tokenizer's own order; with --from TEXT they fit a kind of text better."]
    text = f"{report.ranking.files} files, {size_text(report.ranking.bytes)}"
    return [*said, f"{report.covered:.2%} of the tokens of the text ({text}) are among them."]
