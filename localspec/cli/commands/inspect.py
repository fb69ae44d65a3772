"""``localspec inspect``: the contents of a GGUF file, its role, and the files it pairs with."""

from __future__ import annotations

import json

import click

from localspec.cli.options.values import ModelName


@click.command()
@click.argument("name", metavar="FILE", type=ModelName())
@click.option("--tensors", is_flag=True, help="Also list the tensors.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def inspect(name: str, tensors: bool, as_json: bool) -> None:
    """Show the role, metadata and tensor types of the GGUF file FILE, and the drafters beside it that fit.

    Only the header is read.
    """
    from localspec.cli.inspect.facts import inspected
    from localspec.cli.inspect.text import as_object, listing, metadata, summary
    from localspec.gguf.header import read_header
    from localspec.models.resolve import resolve_model

    found = inspected(read_header(resolve_model(name)))
    if as_json:
        click.echo(json.dumps(as_object(found)))
        return
    lines = [*summary(found), "", *metadata(found.header), *(listing(found.header) if tensors else [])]
    click.echo("\n".join(lines))
