"""``localspec doctor``: what localspec finds here, how sure a pair's output is, and what to do next."""

from __future__ import annotations

import json
import sys

import click

from localspec.cli.options.shared import ModelOptions, model_options


@click.command(short_help="Say what works here, and how sure the output is.")
@model_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object in place of text.")
def doctor(models: ModelOptions, as_json: bool) -> None:
    """Look at this machine, and load a pair to see whether drafting changes nothing in its output.

    Says which GPU is not used and how to change that, what the pair costs and takes, and which models are on disk and
    would fit. Connects to nothing.
    """
    _check_library(as_json)
    from localspec.cli.doctor.report import examine
    from localspec.cli.engine import open_engine

    with open_engine(models) as engine:
        report = examine(engine)
    if as_json:
        click.echo(json.dumps(report))
        return
    from localspec.cli.doctor.text import lines
    from localspec.cli.terminal.style import BOLD, Style, columns

    style, terminal = Style.of(sys.stdout), sys.stdout.isatty()
    told = lines(report, columns(sys.stdout) if terminal else None)
    end = told.index("")
    click.echo("\n".join([*(style.paint(line, BOLD) for line in told[:end]), *told[end:]]))


def _check_library(as_json: bool) -> None:
    """Without llama.cpp nothing works: say why, and how to install it again."""
    try:
        from localspec.llama import binding  # noqa: F401 - raises if llama.cpp cannot be loaded
    except (ImportError, OSError, RuntimeError) as error:
        from localspec.cli.doctor.build import broken
        from localspec.cli.doctor.hardware import facts
        from localspec.errors import BackendError

        advice = broken(facts(()), error)
        if as_json:
            click.echo(json.dumps({"verdict": {"level": "broken", "text": advice.text}, "next": list(advice.commands)}))
        raise BackendError("\n  ".join([advice.text, *advice.commands])) from error
