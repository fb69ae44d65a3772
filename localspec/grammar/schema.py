"""Check a JSON schema and convert it to a grammar.

llguidance makes the grammar. Keywords that it does not implement are refused with their place in the schema; unknown
keywords (a misspelt ``minlength``) give a notice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from localspec.errors import InputError

Schema = dict[str, Any] | bool

#: Keywords that describe a value and do not restrict it.
_ANNOTATIONS = frozenset(
    (
        "$schema", "$id", "$anchor", "$comment", "$defs", "definitions", "title", "description", "default", "examples",
        "deprecated", "readOnly", "writeOnly", "contentEncoding", "contentMediaType", "contentSchema", "x-guidance",
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
        "not", "if", "then", "else", "contains", "minContains", "maxContains", "uniqueItems", "propertyNames",
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
_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def schema_grammar(schema: Any, where: str) -> tuple[str, tuple[str, ...]]:
    """llguidance's grammar for ``schema``, named ``where`` in messages, and notices about parts without effect.

    Raises :class:`InputError` with the place of a part that cannot be followed.
    """
    from localspec.grammar.vocabulary import import_llguidance

    matcher = import_llguidance().LLMatcher
    if schema is True:
        schema = {}
    if schema is False:
        raise InputError(f"{where} is false, which nothing satisfies; give one that something does.")
    if not isinstance(schema, dict):
        raise InputError(f"{where} is {type(schema).__name__!r}; it must be a JSON object.")
    notices = tuple(dict.fromkeys(_notices(schema, where)))
    try:
        text = json.dumps(schema)
        grammar = matcher.grammar_from_json_schema(text, defaults=_STYLE)
        failed, messages = matcher.validate_grammar_with_warnings(grammar)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where} cannot be written as JSON: {error}.") from None
    except RecursionError:
        raise InputError(f"{where} is nested too deeply; flatten it with $defs and $ref.") from None
    if failed:
        raise InputError(f"{where} cannot be followed: {_sentence(messages[0])}{_place(schema, matcher)}.")
    return grammar, (*notices, *(f"{where}: {_sentence(message)}." for message in messages))


def _notices(schema: Schema, where: str) -> Iterator[str]:
    """Notices about the schema. Raises for keywords that are not implemented."""
    for place, part in _parts(schema, where):
        for key in part:
            if key in _NOT_FOLLOWED:
                if key == "uniqueItems" and part[key] is False:
                    continue
                raise InputError(
                    f"{where} has the keyword {key!r} at {place or '/'}, which cannot be followed while generating; "
                    "leave it out, and check the answer afterwards."
                )
            if key not in _FOLLOWED and key not in _ANNOTATIONS:
                yield f"{where}: the word {key!r} at {place or '/'} is no keyword that is known here; it has no effect."
        if part.get("minProperties", 0) not in (0, 1) and part.get("additionalProperties", True) is not False:
            yield f"{where}: minProperties at {place or '/'} counts a name that is repeated each time."


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


def _place(schema: Any, matcher: Any) -> str:
    """Place of the smallest part that fails alone, as `` (at /properties/a)``; empty if it is the whole."""
    found = ""
    definitions = {key: schema[key] for key in ("$defs", "definitions") if isinstance(schema, dict) and key in schema}
    for place, part in _parts(schema, "schema"):
        if place:
            grammar = matcher.grammar_from_json_schema(json.dumps({**definitions, **part}), defaults=_STYLE)
            if matcher.validate_grammar_with_warnings(grammar)[0] and len(place) > len(found):
                found = place
    return f" (at {found})" if found else ""


def _sentence(message: str) -> str:
    """llguidance's message on one line, without a full stop."""
    return " ".join(message.split()).rstrip(".")[:300]
