"""``localspec quantize``: a GGUF file to a smaller one, with llama.cpp's quantiser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gguf_convert.commands.shared import recipe_options, step_bar, tell
from gguf_convert.recipes import make_recipe
from localspec.errors import UsageError

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("source", metavar="IN", type=_PATH)
@click.argument("out", metavar="OUT", type=_PATH)
@recipe_options
@click.option(
    "--tensor-type",
    "overrides",
    metavar="PATTERN=TYPE",
    multiple=True,
    help="Another type for tensors whose name the pattern occurs in; may be repeated, the first that fits decides.",
)
@click.option("--pure", is_flag=True, help="Every matrix in the same type, without llama.cpp's mixture.")
@click.option("--requantize", is_flag=True, help="Also quantise what is quantised already, at a loss.")
def quantize(source: Path, out: Path, kind: str | None, overrides: tuple[str, ...], **options: Any) -> None:
    """Quantise the GGUF file IN to OUT, with --type, --for or --exact.

    It runs llama.cpp's own quantiser, with the same result as llama-quantize for the same --type.
    """
    import gguf_convert

    pairs = [_pair(text) for text in overrides]
    label = make_recipe(kind, role=options["role"], exact=options["exact"], overrides=pairs).label
    with step_bar(f"Quantising to {label}") as progress:
        report = gguf_convert.quantize(source, out, kind, overrides=pairs, progress=progress, **options)
    tell(report)


def _pair(text: str) -> tuple[str, str]:
    pattern, equals, kind = text.rpartition("=")
    if not (pattern and equals and kind):
        raise UsageError(f"--tensor-type takes PATTERN=TYPE, not {text!r}; for example ffn_down=Q6_K.")
    return pattern, kind
