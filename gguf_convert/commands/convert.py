"""``localspec convert``: convert a checkpoint to GGUF, alone or together with its drafter."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

import gguf_convert
from gguf_convert.commands.options import PATH, recipe_options
from gguf_convert.commands.summary import print_report
from gguf_convert.recipes import file_type_name, make_recipe
from localspec.cli.terminal.progress import ProgressBar
from localspec.errors import ConvertError, UsageError
from localspec.gguf.types import EXACT_TYPES, FLOATS

#: Context size in tokens, and prompt, of the test generation.
_CONTEXT, _TEXT = 128, "Once upon a time"


@click.command()
@click.argument("folder", metavar="DIR", type=PATH)
@click.option(
    "-o",
    "--output",
    "out",
    metavar="FILE",
    type=PATH,
    help="The file to write; with --with-draft a folder.",
)
@click.option(
    "--with-draft", "draft", metavar="DIR", type=PATH, help="Also convert this checkpoint, the drafter of DIR."
)
@click.option(
    "--mmproj",
    metavar="FILE",
    type=PATH,
    help="Write the projector, for pictures and sound, to FILE; without -o nothing else.",
)
@recipe_options
@click.option("--verify", "--check", "verify", is_flag=True, help="Compare the written file with DIR.")
def convert(
    folder: Path, out: Path | None, draft: Path | None, mmproj: Path | None, verify: bool, **options: Any
) -> None:
    """Convert a Hugging Face checkpoint to GGUF. The default type is Q8_0.

    DIR holds config.json, tokenizer.json and safetensors. With --with-draft the drafter is checked against the target
    before anything is written. Both files go into the folder FILE under names that -d auto finds, quantised for their
    roles; the default type is Q4_0. The projector of a checkpoint with encoders of pictures goes there too.
    """
    if out is None and (mmproj is None or draft is not None):
        raise UsageError("Name the file to write with -o.")
    if draft is not None and out is not None:
        _convert_pair(folder, draft, out, mmproj, verify, options)
        return
    if mmproj is not None:
        _convert_projector(folder, mmproj, verify, **options)
    if out is not None:
        _convert(folder, out, verify, **options)
        if verify:
            _generate(out, None)


def _convert_pair(
    folder: Path, draft: Path, out: Path, mmproj: Path | None, verify: bool, options: dict[str, Any]
) -> None:
    from gguf_convert.checkpoint.folder import open_checkpoint
    from gguf_convert.commands.pair import check_pair
    from gguf_convert.projector import has_projector

    if options["role"]:
        raise UsageError("--for goes with one file; with --with-draft each gets the recipe of its role.")
    assistant = check_pair(folder, draft)
    target_options, drafter_options = _pair_options(options)
    out.mkdir(parents=True, exist_ok=True)
    kind = target_options["kind"]
    target_file = out / f"{folder.resolve().name}-{kind}.gguf"
    drafter_file = out / f"{'mtp-' if assistant else ''}{draft.resolve().name}-{kind}.gguf"
    _convert(folder, target_file, verify, **target_options)
    _convert(draft, drafter_file, verify, **drafter_options)
    if mmproj is not None:
        _convert_projector(folder, mmproj, verify, **options)
    elif has_projector(open_checkpoint(folder)):
        named = out / f"mmproj-{folder.resolve().name}-{_projector_type(kind)}.gguf"
        _try_projector(folder, named, verify, options)
    _generate(target_file, drafter_file)
    option = "" if assistant else f" -d {drafter_file}"
    click.echo(f"They go together: localspec chat -m {target_file}{option}", err=True)


def _pair_options(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of target and drafter: the given type, with the recipe of the role if it has one."""
    kind = file_type_name(options["kind"] or "Q4_0")
    target_role = "target" if kind in EXACT_TYPES and not options["exact"] else None
    drafter_role = None if kind in FLOATS else "drafter"
    target = {**options, "role": target_role, "kind": kind}
    return target, {**options, "role": drafter_role, "exact": False, "kind": kind, "imatrix": None}


def _convert(folder: Path, out: Path, verify: bool, **options: Any) -> None:
    """Convert, and with ``verify`` compare the file with its checkpoint."""
    kind, role, exact = options.pop("kind"), options["role"], options["exact"]
    label = make_recipe(kind or (None if role or exact else "Q8_0"), role=role, exact=exact).label
    with ProgressBar(f"Converting to {label}", sys.stderr) as bar:
        report = gguf_convert.convert(folder, out, kind, **options, progress=bar.count)
    print_report(report)
    if verify:
        with ProgressBar("Checking", sys.stderr) as bar:
            checked = gguf_convert.check(folder, out, progress=bar.count)
        click.echo(f"Checked {checked.tensors} tensors: every value is as close as its type allows.", err=True)


def _convert_projector(folder: Path, out: Path, verify: bool, **options: Any) -> None:
    """Write the projector in the type of the file, or in F16 where a projector has no such type."""
    kind = _projector_type(options["kind"] or "F16")
    with ProgressBar(f"Converting the projector to {kind}", sys.stderr) as bar:
        report = gguf_convert.convert_projector(
            folder, out, kind, threads=options["threads"], progress=bar.count, force=options["force"]
        )
    print_report(report)
    if verify:
        checked = gguf_convert.check(folder, out, projector=True)
        click.echo(f"Checked {checked.tensors} tensors of the projector.", err=True)


def _try_projector(folder: Path, out: Path, verify: bool, options: dict[str, Any]) -> None:
    """Write the projector, or tell why this checkpoint's cannot be converted."""
    try:
        _convert_projector(folder, out, verify, **options)
    except ConvertError as error:
        click.echo(f"Note: Left out the projector for pictures and sound: {error}", err=True)


def _projector_type(kind: str) -> str:
    name = file_type_name(kind)
    return name if name in gguf_convert.PROJECTOR_TYPES else "F16"


def _generate(target: Path, draft: Path | None) -> None:
    """Load the files, first in a child process, and generate a few tokens."""
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
