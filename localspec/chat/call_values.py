"""Read the values of a tool call from text that may be incomplete: JSON, and the notation of Gemma 4.

Models mix the two, and Python's. JSON is read as JSON; what is not is read by :func:`read_object`, which takes all
three as far as they have one meaning.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from localspec.chat.loose_calls import quoted, unescape

#: Levels of nesting of Gemma's notation, which recursion reads.
_MAX_DEPTH = 64
#: White space of JSON.
_BLANK = re.compile(r"[ \t\r\n]*")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")
#: Text that more characters may make a number.
_NUMBER_PREFIX = re.compile(r"[-+.\deE]*\Z")
_CONSTANTS = (
    *(("true", True), ("false", False), ("null", None)),
    *(("True", True), ("False", False), ("None", None)),
)
#: Quotation mark of Gemma 4, one token.
_QUOTE = '<|"|>'


class IncompleteError(Exception):
    """The text ends inside a value."""


class MalformedError(ValueError):
    """No text that follows makes a value of this notation. ``is_call``: the text can only be meant as a call."""

    def __init__(self, *, is_call: bool = True) -> None:
        super().__init__("not a tool call")
        self.is_call = is_call


def skip_blanks(text: str, at: int) -> int:
    """Index after the white space at ``at``."""
    match = _BLANK.match(text, at)
    return match.end() if match else at


def expect(text: str, at: int, *choices: str) -> int:
    """Index after one of ``choices``, which may follow white space at ``at``."""
    at = skip_blanks(text, at)
    for choice in choices:
        if text.startswith(choice, at):
            return at + len(choice)
    if any(choice.startswith(text[at:]) for choice in choices):
        raise IncompleteError
    raise MalformedError


def read_json(text: str, at: int) -> tuple[Any, int]:
    """The JSON value at ``at``, which may follow white space, and the index after it; objects may be loosely written.

    A value is incomplete if more text can make it JSON, or loosely written JSON.
    """
    at = skip_blanks(text, at)
    try:
        return _read_strict_json(text, at)
    except (IncompleteError, MalformedError) as error:
        if not text.startswith("{", at):
            raise
        try:
            return read_object(text, at)
        except MalformedError:
            raise error from None


def _read_strict_json(text: str, at: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        if skip_blanks(text, error.pos) == len(text) or error.msg.startswith("Unterminated string"):
            raise IncompleteError from error
        if _NUMBER_PREFIX.match(text, error.pos):
            raise IncompleteError from error
        if error.msg.startswith("Invalid \\") and len(text) - error.pos < 12:  # an escape that is cut off
            raise IncompleteError from error
        if any(name.startswith(text[error.pos :]) for name, _ in _CONSTANTS):
            raise IncompleteError from error
        raise MalformedError from error
    except (ValueError, RecursionError) as error:  # NaN, too many digits or too deep
        raise MalformedError from error


def _no_constant(_: str) -> NoReturn:
    raise ValueError("JSON has no such number")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def read_object(text: str, at: int, brackets: str = "{}") -> tuple[dict[str, Any], int]:
    """The object ``{key:value,…}`` at ``at`` between ``brackets``, and the index after it.

    Gemma's strings are quoted by ``<|"|>`` and have no escapes; its keys are bare or strings. That grammar is that of
    llama.cpp's ``common/parsers/gemma4.cpp``. Beside it there may be ordinary and single quotes, ``key=value``,
    Python's constants, and a comma before the end.
    """
    return _object(text, at, 0, brackets)


def _object(text: str, at: int, depth: int, brackets: str = "{}") -> tuple[dict[str, Any], int]:
    if depth > _MAX_DEPTH:
        raise MalformedError
    opening, closing = brackets[0], brackets[1]
    found: dict[str, Any] = {}
    at = skip_blanks(text, expect(text, at, opening))
    while not text.startswith(closing, at):
        key, at = _key(text, at, closing)
        found[key], at = _value(text, at, depth + 1)
        at = expect(text, at, ",", closing)
        if text[at - 1] == closing:
            return found, at
        at = skip_blanks(text, at)
    return found, at + 1


def _key(text: str, at: int, closing: str) -> tuple[str, int]:
    if text.startswith((_QUOTE, '"', "'"), at):
        key, at = _string(text, at)
        return key, expect(text, at, ":", "=")
    end = at
    while end < len(text) and text[end] not in f":=,{closing}":
        end += 1
    if end == len(text):
        raise IncompleteError
    if end == at or text[end] not in ":=":
        raise MalformedError
    return text[at:end].rstrip(), end + 1


def _string(text: str, at: int) -> tuple[str, int]:
    if text.startswith(('"', "'"), at):
        return _quoted_string(text, at)
    at = expect(text, at, _QUOTE)
    end = text.find(_QUOTE, at)
    if end < 0:
        raise IncompleteError
    return text[at:end], end + len(_QUOTE)


def _quoted_string(text: str, at: int) -> tuple[str, int]:
    found = quoted(text, at)
    if found is None:
        raise IncompleteError
    value = unescape(found[0])
    if value is None:
        raise MalformedError
    return value, found[1]


def _value(text: str, at: int, depth: int) -> tuple[Any, int]:
    at = skip_blanks(text, at)
    first = text[at : at + 1]
    if first in ("<", '"', "'"):
        return _string(text, at)
    if first == "{":
        return _object(text, at, depth)
    if first == "[":
        return _list(text, at, depth)
    if first and _NUMBER_PREFIX.match(text, at):
        raise IncompleteError
    number = _NUMBER.match(text, at)
    if number:
        try:
            return json.loads(number[0]), number.end()
        except ValueError as error:  # too many digits
            raise MalformedError from error
    for name, value in _CONSTANTS:
        if text.startswith(name, at):
            return value, at + len(name)
    if any(name.startswith(text[at:]) for name, _ in _CONSTANTS):
        raise IncompleteError
    raise MalformedError


def _list(text: str, at: int, depth: int) -> tuple[list[Any], int]:
    if depth > _MAX_DEPTH:
        raise MalformedError
    found: list[Any] = []
    at = skip_blanks(text, expect(text, at, "["))
    while not text.startswith("]", at):
        value, at = _value(text, at, depth + 1)
        found.append(value)
        at = expect(text, at, ",", "]")
        if text[at - 1] == "]":
            return found, at
        at = skip_blanks(text, at)
    return found, at + 1
