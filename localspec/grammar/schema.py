"""Check a JSON schema and convert it to a grammar.

llguidance makes the grammar. What generators of schemas write and no grammar can hold is rewritten or left out with a
notice (:mod:`localspec.grammar.adapt`). Other keywords that llguidance does not implement are refused with their place
in the schema; unknown keywords (a misspelt ``minlength``) give a notice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from localspec.errors import InputError
from localspec.grammar.adapt import adapt
from localspec.grammar.compiling import MAX_LEVELS, compiled, import_llguidance

Schema = dict[str, Any] | bool

#: Keywords that describe a value and do not restrict it.
_ANNOTATIONS = frozenset(
    (
        "$schema", "$id", "$anchor", "$comment", "$defs", "definitions", "title", "description", "default", "examples",
        "deprecated", "readOnly", "writeOnly", "contentEncoding", "contentMediaType", "contentSchema", "discriminator",
        "example", "externalDocs", "id",
    )
)  # fmt: skip
#: Keywords that the grammar implements.
_FOLLOWED = frozenset(
    (
        "type", "const", "enum", "anyOf", "oneOf", "allOf", "$ref", "items", "prefixItems", "additionalItems",
        "minItems", "maxItems", "properties", "additionalProperties", "patternProperties", "required", "minProperties",
        "maxProperties", "minLength", "maxLength", "pattern", "format", "minimum", "maximum", "exclusiveMinimum",
        "exclusiveMaximum", "multipleOf",
    )
)  # fmt: skip
#: Keywords of JSON Schema that the grammar does not implement.
_NOT_FOLLOWED = frozenset(
    (
        "not", "if", "then", "else", "contains", "minContains", "maxContains",
        "dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties", "unevaluatedItems",
        "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor",
    )
)  # fmt: skip
#: Keywords whose value is a schema.
_SINGLE = ("items", "additionalProperties", "additionalItems")
#: Keywords whose value is a list of schemas.
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
#: Keywords whose value maps names to schemas.
_MAPPINGS = ("properties", "patternProperties", "$defs", "definitions")
#: Levels of nesting that are read.
_MAX_DEPTH = 200
#: One line in the form of Python's ``json.dumps``, which models have seen most. Most of it is forced.
_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "coerce_one_of": True}
#: Parts that one notice names.
_MOST_NAMED = 8
#: Parts that are tried alone to find the place of a fault.
_MOST_TRIED = 300


def schema_grammar(schema: Any, where: str) -> tuple[str, tuple[str, ...]]:
    """llguidance's grammar for ``schema``, named ``where`` in messages, and notices about parts without effect.

    Raises :class:`InputError` with the place of a part that cannot be followed.
    """
    if schema is True:
        schema = {}
    if schema is False:
        raise InputError(f"{where} is false, which nothing satisfies; give one that something does.")
    if not isinstance(schema, dict):
        raise InputError(f"{where} is {type(schema).__name__!r}; it must be a JSON object.")
    try:
        schema = json.loads(json.dumps(schema))  # a copy, which is rewritten
        notices = _prepare(schema, where)
        grammar = _grammar(schema)
        failed, messages = compiled(grammar)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where} cannot be written as JSON: {error}.") from None
    except RecursionError:
        raise InputError(f"{where} is nested too deeply; flatten it with $defs and $ref.") from None
    if failed:
        raise InputError(f"{where} cannot be followed: {_sentence(messages[0])}{_place(schema)}.")
    return grammar, (*notices, *(_warning(message, schema, where) for message in messages))


def _prepare(schema: dict[str, Any], where: str) -> tuple[str, ...]:
    """Rewrite ``schema`` for llguidance. Returns notices. Raises for keywords that are not implemented."""
    notices, lost = dict[str, None](), dict[str, None]()
    for n, (place, part) in enumerate(_parts(schema, where)):
        if n == MAX_LEVELS:
            raise InputError(f"{where} has more than {MAX_LEVELS} parts; use a smaller one.")
        lost.update((f"{name} at {place or '/'}", None) for name in adapt(part, schema))
        notices.update((notice, None) for notice in _notices(place or "/", part, where))
    if lost:
        more = f" and {len(lost) - _MOST_NAMED} more" if len(lost) > _MOST_NAMED else ""
        named = ", ".join(list(lost)[:_MOST_NAMED])
        notices[f"{where}: not enforced while generating: {named}{more}. Check the answer for that."] = None
    return tuple(notices)


def _notices(place: str, part: dict[str, Any], where: str) -> Iterator[str]:
    for key in part:
        if key in _NOT_FOLLOWED:
            raise InputError(
                f"{where} has the keyword {key!r} at {place}, which cannot be followed while generating; "
                "leave it out, and check the answer afterwards."
            )
        if key not in _FOLLOWED and key not in _ANNOTATIONS and not key.startswith("x-"):
            yield f"{where}: the word {key!r} at {place} is no keyword that is known here; it has no effect."
    if part.get("minProperties", 0) not in (0, 1) and part.get("additionalProperties", True) is not False:
        yield f"{where}: minProperties at {place} counts a name that is repeated each time."


def _parts(schema: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """``schema`` and every schema in it, each with its place as a JSON pointer."""
    stack: list[tuple[str, Any]] = [("", schema)]
    while stack:
        place, part = stack.pop()
        if place.count("/") > _MAX_DEPTH:
            raise InputError(f"{where} is nested too deeply; flatten it with $defs and $ref.")
        if isinstance(part, bool):
            continue
        if not isinstance(part, dict):
            raise InputError(f"{where} has {part!r:.60} at {place or '/'}; a schema is an object, true or false.")
        yield place, part
        stack.extend(reversed(list(_within(place, part, where))))


def _within(place: str, part: dict[str, Any], where: str) -> Iterator[tuple[str, Any]]:
    """The schemas that are values of keywords of ``part``."""
    for key in _SINGLE:
        if key in part:
            if isinstance(part[key], list) and key == "items":
                yield from ((f"{place}/{key}/{i}", item) for i, item in enumerate(part[key]))
            else:
                yield f"{place}/{key}", part[key]
    for key in _LISTS:
        if key in part:
            if not isinstance(part[key], list):
                raise InputError(f"{where} has {part[key]!r:.60} at {place}/{key}; it must be a list of schemas.")
            yield from ((f"{place}/{key}/{i}", item) for i, item in enumerate(part[key]))
    for key in _MAPPINGS:
        if key in part:
            if not isinstance(part[key], dict):
                raise InputError(f"{where} has {part[key]!r:.60} at {place}/{key}; it must map names to schemas.")
            yield from ((f"{place}/{key}/{name}", item) for name, item in part[key].items())


def _place(schema: dict[str, Any]) -> str:
    """Place of the smallest part that fails alone, as `` (at /properties/a)``; empty if it is the whole."""
    found = [place for place, failed, _ in _alone(schema, _parts(schema, "schema")) if place and failed]
    return f" (at {max(found, key=len)})" if found else ""


def _warning(message: str, schema: dict[str, Any], where: str) -> str:
    """A notice for llguidance's warning about ``schema``."""
    if not message.startswith("oneOf"):
        return f"{where}: {_sentence(message)}."
    chosen = ((place, {"oneOf": part["oneOf"]}) for place, part in _parts(schema, where) if "oneOf" in part)
    places = [place or "/" for place, _, messages in _alone(schema, chosen) if messages]
    at = f" at {', '.join(places[:_MOST_NAMED])}" if places else ""
    return f"{where}: options of oneOf{at} overlap; the answer follows one of them, and may fit another as well."


def _alone(schema: dict[str, Any], parts: Iterable[tuple[str, Schema]]) -> Iterator[tuple[str, bool, list[str]]]:
    """For the first ``parts`` of ``schema``: place, True if it cannot be followed alone, and messages."""
    definitions: dict[str, Any] = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    for place, part in islice(parts, _MOST_TRIED):
        if isinstance(part, dict):
            yield place, *compiled(_grammar({**definitions, **part}))


def _grammar(schema: dict[str, Any]) -> str:
    return str(import_llguidance().LLMatcher.grammar_from_json_schema(json.dumps(schema), defaults=_STYLE))


def _sentence(message: str) -> str:
    """llguidance's message on one line, without a full stop."""
    return " ".join(message.split()).rstrip(".")[:300]
