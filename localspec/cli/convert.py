"""``localspec convert``: a Hugging Face checkpoint to a GGUF file."""

from __future__ import annotations

from pathlib import Path

import click

_TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0"]  # gguf_convert.TYPES, without its import time


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", "out", metavar="FILE", type=click.Path(path_type=Path), required=True, help="GGUF file to write."
)
@click.option(
    "--type",
    "kind",
    type=click.Choice(_TYPES, case_sensitive=False),
    default="Q8_0",
    show_default=True,
    help="Type of the matrices; everything else stays F32.",
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@click.option("--check", "verify", is_flag=True, help="Read FILE back and compare every value with DIR.")
def convert(folder: Path, out: Path, kind: str, force: bool, verify: bool) -> None:
    """Convert a Hugging Face checkpoint to GGUF.

    DIR holds config.json, tokenizer.json and safetensors of a Gemma 4 dense model or a Gemma 4 assistant.
    """
    from gguf_convert.cli import run

    run(folder, out, kind, force=force, verify=verify)
