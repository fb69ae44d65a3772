"""Parser of GBNF, llama.cpp's grammar notation, by the rules of its own parser.

It is written by hand: llama.cpp does not export its parser, and llguidance's converter splits text into lexemes, which
loses texts that the grammar allows. :mod:`localspec.grammar.lark` converts the result.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import NoReturn, TypeAlias

from localspec.errors import InputError

_NAME = re.compile(r"[a-zA-Z0-9-]+")
_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACE_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_COUNTS = re.compile(r"\{\s*(\d+)\s*(?:(,)\s*(\d*)\s*)?\}")
_ESCAPES = {"t": "\t", "r": "\r", "n": "\n", "f": "\f", "b": "\b", "v": "\v"}
#: Classes of regular expressions. llama.cpp has none; generators of grammars write them.
_CLASSES = {"d": ((48, 57),), "w": ((48, 57), (65, 90), (95, 95), (97, 122)), "s": ((9, 13), (32, 32))}
_HEX = {"x": 2, "u": 4, "U": 8}
#: Largest count of a repetition, llama.cpp's limit.
_MAX_COUNT = 2000
#: Levels of nested parentheses, and repetitions of one item in a row.
_MAX_DEPTH = 100


@dataclass(frozen=True)
class Chars:
    """One character in ``ranges`` of code points (first, last), or outside all of them if ``negated``."""

    ranges: tuple[tuple[int, int], ...]
    negated: bool = False


@dataclass(frozen=True)
class Text:
    """A literal text."""

    text: str


@dataclass(frozen=True)
class Ref:
    """A reference to a rule."""

    name: str


@dataclass(frozen=True)
class Seq:
    """A sequence of parts."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Alt:
    """One of several options."""

    options: tuple[Node, ...]


@dataclass(frozen=True)
class Rep:
    """``node`` at least ``low`` times, at most ``high`` (None: any number)."""

    node: Node
    low: int
    high: int | None


Node: TypeAlias = Chars | Text | Ref | Seq | Alt | Rep


def parse_gbnf(source: str) -> dict[str, Node]:
    """Rules by name, in the order of the file. Raises :class:`InputError` with line and column."""
    return _Parser(source).rules()


class _Parser:
    """Recursive descent over ``source``; ``at`` is the index of the next character."""

    def __init__(self, source: str) -> None:
        self.source, self.at, self.depth = source, 0, 0
        self.used: dict[str, int] = {}

    def rules(self) -> dict[str, Node]:
        found: dict[str, Node] = {}
        self.skip(lines=True)
        while self.at < len(self.source):
            name = self.name()
            self.skip(lines=False)
            if not self.source.startswith("::=", self.at):
                self.fail("expected ::=")
            self.at += 3
            self.skip(lines=True)
            found[name] = self.options(nested=False)
            if self.at < len(self.source) and self.here not in "\r\n":
                self.fail("expected the end of the rule")
            self.skip(lines=True)
        for name, place in self.used.items():
            if name not in found:
                self.at = place
                self.fail(f"there is no rule {name!r}")
        if "root" not in found:
            self.fail("there is no rule 'root', where an answer begins")
        return found

    @property
    def here(self) -> str:
        return self.source[self.at : self.at + 1]

    def fail(self, what: str) -> NoReturn:
        line = self.source.count("\n", 0, self.at) + 1
        column = self.at - (self.source.rfind("\n", 0, self.at) + 1) + 1
        raise InputError(f"the grammar cannot be read: {what} (line {line}, column {column}).")

    def skip(self, *, lines: bool) -> None:
        found = (_SPACE_AND_LINES if lines else _SPACE).match(self.source, self.at)
        self.at = found.end() if found else self.at

    def name(self) -> str:
        found = _NAME.match(self.source, self.at)
        if not found:
            self.fail("expected the name of a rule")
        self.at = found.end()
        return found[0]

    def options(self, *, nested: bool) -> Node:
        options = [self.sequence(nested=nested)]
        while self.here == "|":
            self.at += 1
            self.skip(lines=True)
            options.append(self.sequence(nested=nested))
        return options[0] if len(options) == 1 else Alt(tuple(options))

    def sequence(self, *, nested: bool) -> Node:
        parts: list[Node] = []
        while True:
            part = self.part()
            if part is None:
                break
            self.skip(lines=nested)
            for times in count():
                if not self.here or self.here not in "*+?{":
                    break
                if times == _MAX_DEPTH:
                    self.fail(f"an item is repeated more than {_MAX_DEPTH} times over")
                part = self.repeated(part)
                self.skip(lines=nested)
            parts.append(part)
        return parts[0] if len(parts) == 1 else Seq(tuple(parts))

    def part(self) -> Node | None:
        """The next item without its repetition, None at the end of a sequence."""
        readers: dict[str, Callable[[], Node]] = {'"': self.text, "[": self.chars, "(": self.group}
        if self.here in readers:
            return readers[self.here]()
        if self.here == ".":
            self.at += 1
            return Chars((), negated=True)
        if ranges := self.character_class():
            return Chars(ranges)
        if self.here and self.here in "<!":
            self.fail("tokens cannot be named in a grammar here; write their text")
        if self.here and self.here in "*+?{":
            self.fail(f"there is nothing before {self.here!r} to repeat")
        if _NAME.match(self.source, self.at):
            place = self.at
            name = self.name()
            self.used.setdefault(name, place)
            return Ref(name)
        return None

    def group(self) -> Node:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            self.fail("parentheses are nested too deeply")
        self.at += 1
        self.skip(lines=True)
        node = self.options(nested=True)
        if self.here != ")":
            self.fail("expected )")
        self.at += 1
        self.depth -= 1
        return node

    def repeated(self, node: Node) -> Node:
        simple = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(self.here)
        if simple:
            self.at += 1
            return Rep(node, *simple)
        found = _COUNTS.match(self.source, self.at)
        if not found:
            self.fail("expected {n}, {n,} or {n,m}")
        low = int(found[1])
        high = low if not found[2] else (int(found[3]) if found[3] else None)
        if max(low, high or 0) > _MAX_COUNT or (high is not None and high < low):
            self.fail(f"{found[0]} cannot be followed; counts go up to {_MAX_COUNT}, the smaller first")
        self.at = found.end()
        return Rep(node, low, high)

    def text(self) -> Text:
        self.at += 1
        chars = []
        while self.here != '"':
            chars.append(self.char())
        self.at += 1
        return Text("".join(chars))

    def chars(self) -> Chars:
        self.at += 1
        negated = self.here == "^"
        self.at += negated
        ranges: list[tuple[int, int]] = []
        while self.here != "]":
            if found := self.character_class():
                ranges += found
                continue
            first = last = self.char()
            if self.here == "-" and self.source[self.at + 1 : self.at + 2] != "]":
                self.at += 1
                last = self.char()
            if last < first:
                self.fail(f"the range {first}-{last} is empty")
            ranges.append((ord(first), ord(last)))
        self.at += 1
        if not ranges and not negated:
            self.fail("[] matches nothing")
        return Chars(tuple(ranges), negated)

    def character_class(self) -> tuple[tuple[int, int], ...]:
        """Ranges of ``\\d`` and its like, empty if none is next."""
        kind = self.source[self.at + 1 : self.at + 2] if self.here == "\\" else ""
        ranges = _CLASSES.get(kind.lower(), ())
        if ranges:
            self.at += 2
        return _outside(ranges) if kind.isupper() else ranges

    def char(self) -> str:
        if not self.here:
            self.fail("the grammar ends within quotes or brackets")
        if self.here != "\\":
            self.at += 1
            return self.source[self.at - 1]
        kind = self.source[self.at + 1 : self.at + 2]
        if kind in _HEX:
            digits = self.source[self.at + 2 : self.at + 2 + _HEX[kind]]
            if not re.fullmatch(f"[0-9a-fA-F]{{{_HEX[kind]}}}", digits) or not _is_char(int(digits, 16)):
                self.fail(f"\\{kind}{digits} is no character")
            self.at += 2 + len(digits)
            return chr(int(digits, 16))
        if kind.lower() in _CLASSES and kind:
            self.fail(f"\\{kind} is no single character; write it outside of quotes and ranges")
        if not kind or (kind not in _ESCAPES and (kind.isalnum() or not " " <= kind <= "~")):
            self.fail(f"\\{kind} is no escape")
        self.at += 2
        return _ESCAPES.get(kind, kind)


def _is_char(code: int) -> bool:
    return code < 0xD800 or 0xDFFF < code <= 0x10FFFF


def _outside(ranges: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    """The ranges of all other characters. ``ranges`` are ordered."""
    starts = [0, *(last + 1 for _, last in ranges)]
    ends = [*(first - 1 for first, _ in ranges), 0x10FFFF]
    return tuple(zip(starts, ends, strict=True))
