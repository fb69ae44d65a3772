"""``--json-schema`` and ``--grammar``: the format of the answer, checked before any model is loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from localspec.cli.input.text import argument, parse_json, read_json_file, read_text
from localspec.cli.options.values import FileName

#: Name of the value → its option.
FORMAT_OPTIONS: dict[str, Callable[..., Any]] = {
    "json_schema": click.option(
        "--json-schema",
        type=FileName(),
        metavar="FILE|JSON",
        help="Answer in JSON of this schema (a file, or the schema itself).",
    ),
    "grammar": click.option("--grammar", type=FileName(), metavar="FILE", help="Answer in text of this GBNF grammar."),
}


def given_format(json_schema: str | None, grammar: str | None) -> dict[str, Any]:
    """The engine's keyword arguments for a format. Raises :class:`LocalspecError` for one that cannot be followed."""
    if json_schema is not None and grammar is not None:
        raise click.UsageError("--json-schema and --grammar both set the format; keep one.")
    found: dict[str, Any] = {}
    if json_schema is not None:
        found = {"response_format": {"type": "json_schema", "json_schema": {"schema": _schema(json_schema)}}}
    elif grammar is not None:
        found = {"grammar": read_text(grammar)}
    if found:
        from localspec.grammar.answer import answer_grammar

        answer_grammar(**found)
    return found


def with_format(keywords: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """``keywords``, with the format ``own`` in place of theirs if there is one."""
    if not own:
        return keywords
    return {**{key: value for key, value in keywords.items() if key not in ("response_format", "grammar")}, **own}


def _schema(text: str) -> Any:
    if text.lstrip().startswith("{"):
        return parse_json(argument(text, "--json-schema"), "the schema of --json-schema")
    return read_json_file(text)
