"""``localspec doctor``: check the machine, the installation and a pair of models, and name the next steps."""

from __future__ import annotations

import json
import sys

import click

from localspec.cli.options.model import ModelOptions, model_options


@click.command()
@model_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def doctor(models: ModelOptions, as_json: bool) -> None:
    """Check this machine, and load a pair to check that drafting does not change its output.

    Shows which GPU is unused and how to use it, the speed and memory of the pair, and the models that are on disk or
    would fit. Never connects.
    """
    _check_library(as_json)
    from localspec.cli.doctor.report import examine
    from localspec.cli.model.load import load_engine

    with load_engine(models, measured=True) as engine:
        report = examine(engine)
    if as_json:
        click.echo(json.dumps(report))
        return
    from localspec.cli.doctor.text import report_lines
    from localspec.cli.terminal.style import BOLD, Style, columns

    style, terminal = Style.from_stream(sys.stdout), sys.stdout.isatty()
    found = report_lines(report, columns(sys.stdout) if terminal else None)
    end = found.index("")
    click.echo("\n".join([*(style.paint(line, BOLD) for line in found[:end]), *found[end:]]))


def _check_library(as_json: bool) -> None:
    """Raise :class:`BackendError` with the commands of a new installation if llama.cpp cannot be loaded."""
    try:
        from localspec.llama import binding  # noqa: F401 - imported to see that it can be
    except (ImportError, OSError, RuntimeError) as error:
        from localspec.cli.doctor.build import broken
        from localspec.cli.doctor.hardware import facts
        from localspec.errors import BackendError

        advice = broken(facts(()), error)
        if as_json:
            click.echo(json.dumps({"verdict": {"level": "broken", "text": advice.text}, "next": list(advice.commands)}))
        raise BackendError("\n  ".join([advice.text, *advice.commands])) from error
