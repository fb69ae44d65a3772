"""``localspec quantize``: quantise a GGUF file with llama.cpp's quantiser."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

import gguf_convert
from gguf_convert.commands.options import PATH, recipe_options
from gguf_convert.commands.summary import print_report
from gguf_convert.recipes import make_recipe
from localspec.cli.terminal.progress import ProgressBar
from localspec.errors import UsageError


@click.command()
@click.argument("source", metavar="IN", type=PATH)
@click.argument("out", metavar="OUT", type=PATH)
@recipe_options
@click.option(
    "--tensor-type",
    "overrides",
    metavar="PATTERN=TYPE",
    multiple=True,
    help="Type of tensors whose name matches the pattern; may be repeated, the first match decides.",
)
@click.option("--pure", is_flag=True, help="The same type for every matrix, without llama.cpp's mixture.")
@click.option("--requantize", is_flag=True, help="Also quantise tensors that are quantised already, with loss.")
def quantize(source: Path, out: Path, kind: str | None, overrides: tuple[str, ...], **options: Any) -> None:
    """Quantise the GGUF file IN to OUT, with --type, --for or --exact.

    It runs llama.cpp's quantiser. The result is that of llama-quantize for the same --type.
    """
    pairs = [_pair(text) for text in overrides]
    label = make_recipe(kind, role=options["role"], exact=options["exact"], overrides=pairs).label
    with ProgressBar(f"Quantising to {label}", sys.stderr) as bar:

        def progress(at: gguf_convert.QuantizeProgress) -> None:
            bar.count(at.bytes, at.all_bytes)

        report = gguf_convert.quantize(source, out, kind, overrides=pairs, progress=progress, **options)
    print_report(report)


def _pair(text: str) -> tuple[str, str]:
    pattern, equals, kind = text.rpartition("=")
    if not (pattern and equals and kind):
        raise UsageError(f"--tensor-type takes PATTERN=TYPE, not {text!r}; for example ffn_down=Q6_K.")
    return pattern, kind
