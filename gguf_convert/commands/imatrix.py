"""``localspec imatrix``: measure an importance matrix on a text, for quantising."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gguf_convert.commands.options import PATH
from localspec.cli.options.values import ModelName


@click.command()
@click.argument("model", metavar="MODEL", type=ModelName())
@click.argument("text", metavar="TEXT", type=PATH)
@click.option("-o", "--output", "out", metavar="FILE", type=PATH, required=True, help="The .gguf file to write.")
@click.option(
    "--chunk", metavar="N", type=click.IntRange(min=32), default=512, show_default=True, help="Tokens a piece."
)
@click.option("--chunks", metavar="N", type=click.IntRange(min=1), help="At most N pieces.  [default: the whole text]")
@click.option(
    "-t", "--threads", metavar="N", type=click.IntRange(min=1), help="CPU threads.  [default: physical cores]"
)
@click.option("-ngl", "--gpu-layers", metavar="N", type=int, help="Layers to put on the GPU.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
def imatrix(
    model: str,
    text: Path,
    out: Path,
    chunk: int,
    chunks: int | None,
    threads: int | None,
    gpu_layers: int | None,
    force: bool,
) -> None:
    """Evaluate the file TEXT with MODEL and write the mean squares of the inputs of every matrix.

    Pass the result to 'localspec quantize' or llama-quantize with --imatrix. MODEL should be F16, BF16 or Q8_0, and
    TEXT about 50,000 tokens of the kind that the model will be used for. The format is that of llama-imatrix.
    """
    from gguf_convert.output.files import check_destination
    from localspec.cli.terminal.progress import ProgressBar
    from localspec.errors import ModelFileError
    from localspec.gguf.header import read_header
    from localspec.gguf.imatrix import write_imatrix
    from localspec.llama.imatrix import compute_imatrix
    from localspec.models.pairing import is_assistant
    from localspec.models.resolve import resolve_model
    from localspec.params import ContextParams
    from localspec.probe.load_test import try_files

    check_destination(out, force)
    header = read_header(resolve_model(model))
    if is_assistant(header):
        raise ModelFileError(f"{model} is an assistant, which computes nothing without its target: give the target.")
    content = _read(text)
    for notice in try_files(header.path):
        click.echo(f"Note: {notice}", err=True)
    params = ContextParams(threads=threads, gpu_layers=gpu_layers)
    with ProgressBar("Evaluating", sys.stderr) as bar:
        made = compute_imatrix(header, content, str(text), params, chunk=chunk, chunks=chunks, progress=bar.count)
    write_imatrix(out, made)
    click.echo(f"Wrote {out} ({len(made.entries)} matrices, {made.chunks} pieces of {chunk} tokens).", err=True)


def _read(path: Path) -> str:
    from localspec.errors import InputError

    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}); convert it first.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}. Give a text file.") from error
