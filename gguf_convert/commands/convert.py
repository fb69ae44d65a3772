"""``localspec convert``: a Hugging Face checkpoint to GGUF, alone or together with its drafter's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gguf_convert.commands.shared import check_one, check_option, convert_one, recipe_options
from gguf_convert.recipes import file_type_name
from localspec.errors import DraftMismatchError, UsageError
from localspec.gguf.types import EXACT_TYPES, FLOATS

if TYPE_CHECKING:
    from gguf_convert.describing import Description

_PATH = click.Path(path_type=Path)
#: What a file is tried with.
_CONTEXT, _TEXT = 128, "Once upon a time"


@click.command()
@click.argument("folder", metavar="DIR", type=_PATH)
@click.option(
    "-o", "--output", "out", metavar="FILE", type=_PATH, required=True, help="To write; a folder with --with-draft."
)
@click.option(
    "--with-draft", "draft", metavar="DIR", type=_PATH, help="Convert this checkpoint of a drafter too, as its pair."
)
@recipe_options
@check_option
def convert(folder: Path, out: Path, draft: Path | None, verify: bool, **options: Any) -> None:
    """Convert a Hugging Face checkpoint to GGUF, in Q8_0 unless told otherwise.

    DIR holds config.json, tokenizer.json and safetensors. With --with-draft the drafter is checked against the target
    before anything is written, and both files go into the folder FILE under names that -d auto finds; they are
    quantised for their roles, in Q4_0 unless told otherwise.
    """
    if draft is not None:
        _convert_pair(folder, draft, out, verify, options)
        return
    convert_one(folder, out, **options)
    if verify:
        check_one(folder, out)
        _try(out, None)


def _convert_pair(folder: Path, draft: Path, out: Path, verify: bool, options: dict[str, Any]) -> None:
    from gguf_convert.describing import describe
    from localspec.models.pairing import is_assistant

    if options["role"]:
        raise UsageError("--for goes with one file; with --with-draft each gets the recipe of its role.")
    target, drafter = describe(folder), describe(draft)
    assistant = is_assistant(drafter.header)
    _check_pair(target, drafter, assistant)
    roles = _roles(options)
    out.mkdir(parents=True, exist_ok=True)
    kind = options["kind"] or "Q4_0"
    files = (out / _name(folder, kind), out / _name(draft, kind, "mtp-" if assistant else ""))
    for source, file, extra in zip((folder, draft), files, roles, strict=True):
        convert_one(source, file, **{**options, **extra})
        if verify:
            check_one(source, file)
    _try(*files)
    click.echo(f"They go together: localspec chat -m {files[0]}{'' if assistant else f' -d {files[1]}'}", err=True)


def _roles(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The recipes of target and drafter: the type that was asked for, in the variant of the role where there is one."""
    kind = file_type_name(options["kind"] or "Q4_0")
    target = {"role": "target" if kind in EXACT_TYPES and not options["exact"] else None, "kind": kind}
    drafter = {"role": None if kind in FLOATS else "drafter", "exact": False, "kind": kind, "imatrix": None}
    return target, drafter


def _check_pair(target: Description, drafter: Description, assistant: bool) -> None:
    from gguf_convert.describing import vocabulary_mismatch
    from localspec.models.pairing import assistant_mismatch, is_assistant

    if is_assistant(target.header):
        raise DraftMismatchError(
            f"{target.header.path} is an assistant: give the target's checkpoint first, and the assistant's "
            "with --with-draft."
        )
    if assistant:
        reason = assistant_mismatch(target.header, drafter.header)
    else:
        reason = vocabulary_mismatch(target.vocabulary, drafter.vocabulary)
    if reason:
        raise DraftMismatchError(
            f"{drafter.header.path} cannot draft for {target.header.path}: {reason}. "
            "Give the checkpoint of a drafter that was made for this target."
        )


def _name(folder: Path, kind: str, prefix: str = "") -> str:
    return f"{prefix}{folder.resolve().name}-{file_type_name(kind)}.gguf"


def _try(target: Path, draft: Path | None) -> None:
    """Load what was written, first in a process of its own, and decode a few tokens."""
    import localspec
    from localspec.gguf.header import read_header
    from localspec.models.pairing import is_assistant

    if is_assistant(read_header(target)):
        click.echo("An assistant runs with its target only, so llama.cpp did not try it.", err=True)
        return
    drafter = "none" if draft is None else str(draft)
    with localspec.load(str(target), drafter, ctx_size=_CONTEXT, exactness="off") as llm:
        llm.generate(_TEXT, max_tokens=8, temperature=0)
    click.echo(f"llama.cpp loads and decodes {'it' if draft is None else 'both'}.", err=True)
