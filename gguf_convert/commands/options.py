"""Options that several commands of the converter share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

import gguf_convert
from gguf_convert.recipes import ALIASES

_Command = TypeVar("_Command", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)


def recipe_options(command: _Command) -> _Command:
    """Add ``--type``, ``--for``, ``--exact``, ``--imatrix``, ``-t`` and ``--force``."""
    options = (
        click.option(
            "--type",
            "kind",
            type=click.Choice([*gguf_convert.TYPES, *ALIASES], case_sensitive=False),
            metavar="TYPE",
            help=f"One of llama.cpp's types: {', '.join(gguf_convert.TYPES)}.",
        ),
        click.option(
            "--for",
            "role",
            type=click.Choice(gguf_convert.ROLES),
            help="A recipe for speculation: a target with exact rows, or a drafter with a cheap head.  [type: Q4_0]",
        ),
        click.option(
            "--exact",
            is_flag=True,
            help="Only types whose rows are the same in a batch as alone, on a CPU.  [type: Q4_0; or Q8_0]",
        ),
        click.option(
            "--imatrix",
            metavar="FILE",
            type=PATH,
            help="Importance matrix from 'localspec imatrix' or llama-imatrix.",
        ),
        click.option(
            "-t",
            "--threads",
            metavar="N",
            type=click.IntRange(min=1),
            help="Threads of llama.cpp's quantiser.  [default: all]",
        ),
        click.option("--force", is_flag=True, help="Replace an existing file."),
    )
    for option in reversed(options):
        command = option(command)
    return command
