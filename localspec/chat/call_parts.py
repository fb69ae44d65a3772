"""The arguments of a call as JSON while the model still writes them, in JSON or in Gemma's notation.

What :class:`ArgumentsWriter` returns, joined, is the beginning of the text that
:func:`localspec.chat.call_syntax.to_json` makes of the whole object. Where the text could mean something else, it
returns no more.
"""

from __future__ import annotations

import json
import math
import re
from typing import NamedTuple

#: Quotation mark of Gemma 4.
_QUOTE = '<|"|>'
#: The inside of a string of JSON up to an escape that is cut off; a surrogate is whole with its other half alone.
_WHOLE = re.compile(
    r"""(?:[^\\"]|\\[^u]|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4}"""
    r"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})*"
)
_WORD = re.compile(r'[^\s{}\[\],:"\'=<>]+')
_CONSTANTS = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}
_DECODER = json.JSONDecoder(strict=False)


class CallPart(NamedTuple):
    """A piece of a call: the first one has the ``name``, later ones more of the ``arguments``, which are JSON text."""

    number: int
    name: str | None
    arguments: str
    id: str = ""


class ArgumentsWriter:
    """Pieces of an object's text in, pieces of its JSON out. ``written``: all of them."""

    def __init__(self) -> None:
        self.written = ""
        self._text, self._open = "", list[str]()
        #: The mark that ends the string that is open.
        self._string = ""
        #: True if the last sign was a comma, which is written with what follows it.
        self._comma = False
        #: True at the end, or once the text could mean something else.
        self._lost = False

    def add(self, text: str) -> str:
        """Append ``text``; returns more of the JSON."""
        self._text += text
        found = ""
        try:
            while not self._lost and (step := self._step()) is not None:
                found += step
        except ValueError:
            self._lost = True
        self.written += found
        return found

    def _step(self) -> str | None:
        """JSON of the next sign, None if more text is needed."""
        if self._string:
            return self._in_string()
        self._text = self._text.lstrip(" \t\r\n")
        if not self._text:
            return None
        first = self._text[0]
        if first in "{}[],:":
            return self._sign(first, self._bracket(first))
        for mark in ('"', _QUOTE):
            if self._text.startswith(mark):
                self._string = mark
                return self._sign(mark, self._before() + '"')
        return None if _QUOTE.startswith(self._text) else self._word()

    def _bracket(self, sign: str) -> str:
        if sign in "{[":
            self._open.append("}" if sign == "{" else "]")
            return self._before() + sign
        if sign in "}]":
            if self._comma or not self._open or self._open.pop() != sign:
                raise ValueError
            self._lost = not self._open  # the end
            return sign
        return ": " if sign == ":" else ""

    def _sign(self, sign: str, written: str) -> str:
        self._text = self._text[len(sign) :]
        self._comma = sign == ","
        return written

    def _before(self) -> str:
        """The comma before what comes now."""
        return ", " if self._comma else ""

    def _word(self) -> str | None:
        """A number or a constant, or a key without quotation marks."""
        found = _WORD.match(self._text)
        if found is None:
            raise ValueError
        if found.end() == len(self._text):
            return None  # it may go on
        word, rest = found[0], self._text[found.end() :].lstrip()
        if not rest:
            return None
        if rest[0] == ":":
            written = json.dumps(word, ensure_ascii=False)
        else:
            value = _CONSTANTS[word] if word in _CONSTANTS else _number(word)
            written = json.dumps(value)
        return self._sign(word, self._before() + written)

    def _in_string(self) -> str | None:
        if self._string == _QUOTE:
            end = self._text.find(_QUOTE)
            kept = next((n for n in range(len(_QUOTE) - 1, 0, -1) if self._text.endswith(_QUOTE[:n])), 0)
            inside = self._text[: end if end >= 0 else len(self._text) - kept]
            value = inside
        else:
            found = _WHOLE.match(self._text)
            assert found is not None
            inside = found[0]
            end = found.end() if self._text[found.end() : found.end() + 1] == '"' else -1
            if end < 0 and len(self._text) - found.end() > 12:  # more than an escape that is cut off
                raise ValueError
            value = _DECODER.decode(f'"{inside}"')
        if not inside and end < 0:
            return None
        written = json.dumps(value, ensure_ascii=False)[1:-1]
        self._text = self._text[len(inside) :]
        if end >= 0:
            self._text, self._string = self._text[len(self._string) :], ""
            written += '"'
        return written


def _number(word: str) -> float | int:
    """The value of a number. Raises ValueError for another word."""
    value = json.loads(word)
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(word)
    return value
