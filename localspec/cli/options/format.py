"""``--json-schema`` and ``--grammar``: what the answer must look like, checked before any model is opened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from localspec.cli.messages import argument, decode, label, read_bytes

#: Name of the value → its option.
FORMAT_OPTIONS: dict[str, Callable[..., Any]] = {
    "json_schema": click.option(
        "--json-schema", metavar="FILE|JSON", help="Answer in JSON that this schema describes (a file, or the schema)."
    ),
    "grammar": click.option("--grammar", metavar="FILE", help="Answer in text that this GBNF grammar describes."),
}


def given_format(json_schema: str | None, grammar: str | None) -> dict[str, Any]:
    """The engine's keyword arguments for what was given. Raises :class:`LocalspecError` for what cannot be followed."""
    if json_schema is not None and grammar is not None:
        raise click.UsageError("--json-schema and --grammar both say what the answer looks like; keep one.")
    if json_schema is not None:
        return _checked({"response_format": {"type": "json_schema", "json_schema": {"schema": _schema(json_schema)}}})
    if grammar is not None:
        return _checked({"grammar": decode(read_bytes(grammar), label(grammar))})
    return {}


def line_format(data: dict[str, Any], where: str) -> dict[str, Any]:
    """The same for a line of ``--jsonl``, which may bring a ``response_format`` or a ``grammar`` of its own."""
    from localspec.errors import InputError, LocalspecError, MissingFeatureError

    own = {key: data[key] for key in ("response_format", "grammar") if data.get(key) is not None}
    try:
        return _checked(own) if own else {}
    except MissingFeatureError:
        raise
    except LocalspecError as error:
        raise InputError(f"{where}: {error}") from None


def with_format(options: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """``options``, with ``own`` format in the place of theirs if there is one."""
    if not own:
        return options
    return {**{key: value for key, value in options.items() if key not in ("response_format", "grammar")}, **own}


def _schema(text: str) -> Any:
    from localspec.grammar.answer import parse_schema

    if text.lstrip().startswith("{"):
        return parse_schema(argument(text, "--json-schema"), "the schema of --json-schema")
    return parse_schema(decode(read_bytes(text), label(text)), label(text))


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    from localspec.grammar.answer import answer_grammar

    answer_grammar(options.get("response_format"), options.get("grammar"))
    return options
