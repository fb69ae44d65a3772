"""Rewrite a part of a schema so that llguidance can follow it, and tell what stays unenforced.

Generators of schemas (pydantic, zod, the SDKs of OpenAI) write formats, patterns and keywords that a grammar cannot
hold. Where others mean the same, those take their place; what is left is removed, and the caller tells of it.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from localspec.grammar.compiling import import_llguidance

#: A schema that nothing satisfies. llguidance takes an optional property of this schema for one that is absent.
_NEVER: dict[str, Any] = {"enum": []}
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
#: Patterns of what a negative look-ahead at the beginning of a pattern leaves, for those of the common generators.
_COMPLEMENTS = {
    r"\.": r"^(?:[^.]|$)",
    r".*\.\.": r"^(?:\.?[^.])*\.?$",
    r"^[-+.]*$": r"[^-+.]",
}
_HEX = "[0-9a-fA-F]"
_UUID = f"^{_HEX}{{8}}-{_HEX}{{4}}-%s{_HEX}{{3}}-[89abAB]{_HEX}{{3}}-{_HEX}{{12}}$"
#: Patterns of formats that llguidance does not know, or not for the names of members.
_FORMATS = {
    "base64": "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
    "uuid": _UUID % "[1-8]",
    **{f"uuid{version}": _UUID % version for version in range(1, 9)},
}
_LOOK_AHEAD = re.compile(r"\^\(\?([=!])((?:[^()\\\[]|\\.|\[(?:[^\]\\]|\\.)*\])*)\)")
#: Syntax of ECMAScript's patterns that Python's ``re`` lacks.
_ECMA_ONLY = re.compile(r"\\[pPkcu](?:\{[^}]*\}|<[^>]*>|[A-Za-z])|\\/|\(\?<(?![=!])[^>]*>")


def adapt(part: dict[str, Any], root: Mapping[str, Any]) -> list[str]:
    """Rewrite ``part`` of the schema ``root`` in place. Returns the names of keywords that are not enforced."""
    if part.get("not") in ({}, True) and isinstance(part["not"], dict | bool):
        part.clear()
        part.update(_NEVER)
    lost = ["uniqueItems"] if part.pop("uniqueItems", False) else []
    if "pattern" in part and not _adapt_pattern(part):
        lost.append(f"pattern {_short(part.pop('pattern'))}")
    kind = part.get("format")
    if isinstance(kind, str) and failure({"type": "string", "format": kind}):
        del part["format"]
        if kind in _FORMATS:
            part.setdefault("pattern", _FORMATS[kind])
        is_text = "string" in str(part.get("type", "string"))
        if is_text and "pattern" not in part:  # zod writes the pattern of its formats
            lost.append(f"format {_short(kind)}")
    bounds = {key: part[key] for key in _BOUNDS if key in part}
    if bounds and (failure({"type": part.get("type", "number"), **bounds}) or "").startswith("Failed to generate"):
        lost += bounds
        for key in bounds:
            del part[key]
    if "propertyNames" in part and not _adapt_names(part, _resolved(part.pop("propertyNames"), root)):
        lost.append("propertyNames")
    return lost + _adapt_pattern_properties(part)


@lru_cache(1000)
def _failure(text: str) -> str | None:
    matcher = import_llguidance().LLMatcher
    failed, messages = matcher.validate_grammar_with_warnings(matcher.grammar_from_json_schema(text))
    return str(messages[0]) if failed else None


def failure(schema: dict[str, Any]) -> str | None:
    """llguidance's reason why it cannot follow a small ``schema``, None if it can."""
    return _failure(json.dumps(schema))


def _follows(pattern: str) -> bool:
    return failure({"type": "string", "pattern": pattern}) is None


def _short(pattern: str) -> str:
    return repr(pattern if len(pattern) <= 40 else f"{pattern[:37]}...")


def _adapt_pattern(part: dict[str, Any]) -> bool:
    """Put patterns without look-ahead in place of a pattern. False if it cannot be followed, and is no mistake."""
    pattern = part["pattern"]
    if not isinstance(pattern, str) or _follows(pattern) or not _is_pattern(pattern):
        return True
    found = list[str]()
    while ahead := _LOOK_AHEAD.match(pattern):
        found.append(f"^(?:{ahead[2]})" if ahead[1] == "=" else _COMPLEMENTS.get(ahead[2], ahead[0]))
        pattern = "^" + pattern[ahead.end() :]
    others = part.get("allOf", [])
    if not all(map(_follows, [pattern, *found])) or not isinstance(others, list):
        return False
    part["pattern"], part["allOf"] = pattern, [*others, *({"pattern": other} for other in found)]
    return True


def _is_pattern(text: str) -> bool:
    """True unless ``text`` is a pattern in no notation: a bracket that is not closed, a repetition of nothing."""
    plain = _ECMA_ONLY.sub(lambda found: "(" if found[0].startswith("(") else "x", text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # about brackets within brackets
            re.compile(plain)
    except re.error:
        return False
    return True


def _adapt_pattern_properties(part: dict[str, Any]) -> list[str]:
    """Remove patterns of names that cannot be followed; any name may then have their values."""
    found, lost = part.get("patternProperties"), list[str]()
    if not isinstance(found, dict):
        return lost
    for name in list(found):
        if not _follows(name) and _is_pattern(name):
            lost.append(f"patternProperties {_short(name)}")
            value = found.pop(name)
            if part.get("additionalProperties") is False:
                part["additionalProperties"] = value
    return lost


def _adapt_names(part: dict[str, Any], rule: Any) -> bool:
    """Write ``rule``, the schema of the names of an object, with other keywords. False if that is not possible."""
    if rule is True:
        return True
    if not isinstance(rule, dict) or rule.get("type", "string") != "string":
        return False
    rule = {key: value for key, value in rule.items() if key not in ("type", "title", "description", "$schema", "$id")}
    if not rule:
        return True
    if part.get("properties") or part.get("patternProperties"):
        return False
    value = part.get("additionalProperties", True)
    if (kind := str(rule.get("format"))) in _FORMATS:
        rule = {"pattern": _FORMATS[kind], **rule}
    if "const" in rule or isinstance(rule.get("enum"), list):
        names = rule["enum"] if "enum" in rule else [rule["const"]]
        part["properties"] = {name: value for name in names if isinstance(name, str)}
    elif isinstance(pattern := rule.get("pattern"), str) and rule.keys() <= {"pattern", "format"} and _follows(pattern):
        part["patternProperties"] = {pattern: value}
    elif rule.keys() <= {"minLength", "maxLength"}:
        part["patternProperties"] = {f"^[\\s\\S]{{{rule.get('minLength', 0)},{rule.get('maxLength', '')}}}$": value}
    else:
        return False
    part["additionalProperties"] = False
    return True


def _resolved(part: Any, root: Mapping[str, Any]) -> Any:
    """``part``, or the definition in ``root`` that it refers to."""
    for _ in range(20):  # a chain of references may be a circle
        if not isinstance(part, dict) or not str(part.get("$ref", "")).startswith("#/"):
            break
        found: Any = root
        for step in part["$ref"][2:].split("/"):
            found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
        part = found
    return part
