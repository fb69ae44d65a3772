"""Reads the values inside a tool call from text that may not be all there yet: JSON, and Gemma 4's own notation."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

_DEEPEST = 64
_BLANK = re.compile(r"[ \t\r\n]*")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")
_NUMBER_GOES_ON = re.compile(r"[-+.\deE]*\Z")
_WORDS = (("true", True), ("false", False), ("null", None), ("None", None))
_QUOTE = '<|"|>'


class NotYet(Exception):  # noqa: N818 - no error: more must come
    """The text ends inside a value."""


class Broken(ValueError):  # noqa: N818 - as above
    """No value of this notation, whatever follows. ``expected`` tells whether one should have been there."""

    def __init__(self, *, expected: bool = True) -> None:
        super().__init__("not a tool call")
        self.expected = expected


def blank(text: str, at: int) -> int:
    """Where the white space at ``at`` ends."""
    match = _BLANK.match(text, at)
    return match.end() if match else at


def literal(text: str, at: int, *choices: str) -> int:
    """Where one of ``choices`` ends that comes after white space at ``at``."""
    at = blank(text, at)
    for choice in choices:
        if text.startswith(choice, at):
            return at + len(choice)
    if any(choice.startswith(text[at:]) for choice in choices):
        raise NotYet
    raise Broken


def read_json(text: str, at: int) -> tuple[Any, int]:
    """The JSON value after white space at ``at``, and where it ends."""
    at = blank(text, at)
    try:
        return _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        if blank(text, error.pos) == len(text) or error.msg.startswith("Unterminated string"):
            raise NotYet from error
        if _NUMBER_GOES_ON.match(text, error.pos):
            raise NotYet from error
        if error.msg.startswith("Invalid \\") and len(text) - error.pos < 12:  # an escape that is cut short
            raise NotYet from error
        if any(word.startswith(text[error.pos :]) for word, _ in _WORDS):
            raise NotYet from error
        raise Broken from error
    except (ValueError, RecursionError) as error:  # a constant that JSON does not have, too many digits, too deep
        raise Broken from error


def _no_constant(_: str) -> NoReturn:
    raise ValueError("JSON has no such number")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def gemma_arguments(text: str, at: int) -> tuple[dict[str, Any], int]:
    """The object ``{key:value,…}`` at ``at``, and where it ends.

    Strings stand between ``<|"|>`` and have no escapes; keys are bare, or strings. The grammar is that of llama.cpp's
    ``common/parsers/gemma4.cpp``.
    """
    return _object(text, at, 0)


def _object(text: str, at: int, depth: int) -> tuple[dict[str, Any], int]:
    if depth > _DEEPEST:
        raise Broken
    found: dict[str, Any] = {}
    at = blank(text, literal(text, at, "{"))
    if text.startswith("}", at):
        return found, at + 1
    while True:
        key, at = _key(text, at)
        found[key], at = _value(text, at, depth + 1)
        at = literal(text, at, ",", "}")
        if text[at - 1] == "}":
            return found, at
        at = blank(text, at)


def _key(text: str, at: int) -> tuple[str, int]:
    if text.startswith(_QUOTE, at):
        key, at = _string(text, at)
        return key, literal(text, at, ":")
    end = at
    while end < len(text) and text[end] not in ":}":
        end += 1
    if end == len(text):
        raise NotYet
    if end == at or text[end] == "}":
        raise Broken
    return text[at:end], end + 1


def _string(text: str, at: int) -> tuple[str, int]:
    at = literal(text, at, _QUOTE)
    end = text.find(_QUOTE, at)
    if end < 0:
        raise NotYet
    return text[at:end], end + len(_QUOTE)


def _value(text: str, at: int, depth: int) -> tuple[Any, int]:
    at = blank(text, at)
    first = text[at : at + 1]
    if first == "<":
        return _string(text, at)
    if first == "{":
        return _object(text, at, depth)
    if first == "[":
        return _list(text, at, depth)
    if first and _NUMBER_GOES_ON.match(text, at):
        raise NotYet
    number = _NUMBER.match(text, at)
    if number:
        try:
            return json.loads(number[0]), number.end()
        except ValueError as error:  # too many digits
            raise Broken from error
    for word, value in _WORDS:
        if text.startswith(word, at):
            return value, at + len(word)
    if any(word.startswith(text[at:]) for word, _ in _WORDS):
        raise NotYet
    raise Broken


def _list(text: str, at: int, depth: int) -> tuple[list[Any], int]:
    if depth > _DEEPEST:
        raise Broken
    found: list[Any] = []
    at = blank(text, literal(text, at, "["))
    if text.startswith("]", at):
        return found, at + 1
    while True:
        value, at = _value(text, at, depth + 1)
        found.append(value)
        at = literal(text, at, ",", "]")
        if text[at - 1] == "]":
            return found, at
