"""JSON schemas as rules for values in the notation of Gemma 4: ``{key:<|"|>text<|"|>,list:[1,2]}``, keys sorted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from localspec.errors import InputError

_QUOTE = '<|"|>'
#: Keywords that these rules follow, or that restrict nothing.
_FOLLOWED = frozenset(
    (
        "type", "const", "enum", "anyOf", "oneOf", "$ref", "items", "minItems", "maxItems", "properties", "required",
        "additionalProperties", "minLength", "maxLength", "title", "description", "default", "examples", "example",
        "deprecated", "$defs", "definitions", "$schema", "$id", "id", "$comment", "x-guidance",
    )
)  # fmt: skip
#: Rules of values without a schema, and terminals. A text holds no quotation mark, which would end it.
_FIXED = (
    'any: string | number | "true" | "false" | "None" | any_object | any_list',
    'any_object: "{" (any_key any ("," any_key any)*)? "}"',
    'any_list: "[" (any ("," any)*)? "]"',
    r"any_key: /[A-Za-z_][A-Za-z0-9_.-]*:/",
    'number: %json {"type": "number"}',
    'integer: %json {"type": "integer"}',
    r'TEXT: /(?s:.+)/ & ~/(?s:.*)<\|"\|>(?s:.*)/',
)
_SIMPLE = {"string": "string", "number": "number", "integer": "integer", "null": '"None"'}
#: Keywords of numbers, which are written as in JSON.
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")


class GemmaRules:
    """Rules in Lark, collected in :attr:`rules`. ``parts`` writes a text whose markers are tokens."""

    def __init__(self, parts: Callable[[str], str]) -> None:
        self._parts, self._quote = parts, parts(_QUOTE)
        self.rules = [*_FIXED, f"string: {self._quote} TEXT? {self._quote}"]
        self._references: dict[str, str] = {}
        self._lost: dict[str, None] = {}

    def notices(self, where: str) -> list[str]:
        """A notice about what was not followed since the last call."""
        lost, self._lost = ", ".join(self._lost), {}
        return [f"{where}: not enforced while generating: {lost}. Check the answer for that."] if lost else []

    def object(self, schema: Any, root: Mapping[str, Any]) -> str:
        """The name of a rule for an object of ``schema``, a part of ``root``."""
        found = schema.get("properties")
        self._lost.update((key, None) for key in sorted(schema.keys() - _FOLLOWED))
        if not found:
            return '"{}"' if schema.get("additionalProperties") is False else "any_object"
        required = set(schema.get("required", ()))
        first = later = '"}"'
        # From the last member to the first: what may follow where no member came before, and where one did.
        for key in sorted(found, key=str.lower, reverse=True):  # as Jinja's dictsort
            member = f"{self._parts(_key(key))} {self.value(found[key], root)} {later}"
            skipped = ("", "") if key in required else (f" | {first}", f" | {later}")
            first, later = self._rule(member + skipped[0]), self._rule(f'"," {member}{skipped[1]}')
        return self._rule(f'"{{" {first}')

    def value(self, schema: Any, root: Mapping[str, Any]) -> str:
        """A rule, or a part of one, for a value of ``schema``."""
        if not isinstance(schema, dict) or not schema:
            return "any"
        if "$ref" in schema:
            return self._reference(str(schema["$ref"]), root)
        if "const" in schema or "enum" in schema:
            values = schema["enum"] if "enum" in schema else [schema["const"]]
            return self._rule(" | ".join(self._parts(_written(value)) for value in values))
        if options := schema.get("anyOf") or schema.get("oneOf"):
            return self._rule(" | ".join(self.value(option, root) for option in options))
        kinds = schema.get("type", "object" if "properties" in schema else _TYPES)
        if isinstance(kinds, str):
            return self._typed(kinds, schema, root)
        return "any" if kinds is _TYPES else self._rule(" | ".join(self._typed(kind, schema, root) for kind in kinds))

    def _typed(self, kind: str, schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
        if kind == "object":
            return self.object(schema, root)
        bounds = {key: schema[key] for key in _BOUNDS if key in schema and kind in ("integer", "number")}
        self._lost.update((key, None) for key in sorted(schema.keys() - _FOLLOWED - bounds.keys()))
        if bounds:
            return self._rule(f"%json {json.dumps({'type': kind, **bounds})}")
        if kind == "array":
            return self._list(schema, root)
        if kind == "boolean":
            return '("true" | "false")'
        if kind == "string" and ("minLength" in schema or "maxLength" in schema):
            least, most = schema.get("minLength", 0), schema.get("maxLength", "")
            name = self._name(f'/(?s:.{{{max(least, 1)},{most}}})/ & ~/(?s:.*)<\\|"\\|>(?s:.*)/', "T")
            text = "" if most == 0 else name if least else f"{name}?"
            return f"({self._quote} {text} {self._quote})"
        return _SIMPLE[kind]

    def _list(self, schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
        item, least, most = self.value(schema.get("items"), root), schema.get("minItems", 0), schema.get("maxItems")
        if most == 0:
            return '"[]"'
        times = f"{{{max(least - 1, 0)},{'' if most is None else most - 1}}}"
        items = f'{item} ("," {item}){times}'
        return self._rule(f'"[" {items} "]"' if least else f'"[" ({items})? "]"')

    def _reference(self, name: str, root: Mapping[str, Any]) -> str:
        if name not in self._references:
            found: Any = root
            for step in name.removeprefix("#").strip("/").split("/"):
                found = found.get(step.replace("~1", "/").replace("~0", "~")) if step and found else found
            if found is None or not name.startswith("#"):
                raise InputError(f"the parameters refer to {name!r:.80}, which is not in them.")
            self._references[name] = rule = f"ref{len(self._references)}"  # known before its parts, which may need it
            self.rules.append(f"{rule}: {self.value(found, root)}")
        return self._references[name]

    def _rule(self, body: str) -> str:
        return self._name(body, "g")

    def _name(self, body: str, prefix: str) -> str:
        name = f"{prefix}{len(self.rules)}"
        self.rules.append(f"{name}: {body}")
        return name


def _key(key: str) -> str:
    """A key as the template writes it; one with other characters in quotation marks."""
    plain = key and all(char.isalnum() or char in "_.-" for char in key)
    return f"{key}:" if plain else f"{_QUOTE}{key}{_QUOTE}:"


def _written(value: Any) -> str:
    """A JSON value in Gemma's notation."""
    if isinstance(value, str):
        return f"{_QUOTE}{value}{_QUOTE}"
    if isinstance(value, dict):
        return "{" + ",".join(f"{_key(key)}{_written(value[key])}" for key in sorted(value, key=str.lower)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    return "None" if value is None else json.dumps(value)
