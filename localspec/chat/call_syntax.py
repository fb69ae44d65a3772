"""Syntaxes in which chat models write tool calls: one form a class, one list of forms a family of models."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from localspec.chat.call_values import (
    IncompleteError,
    MalformedError,
    expect,
    read_json,
    read_object,
    skip_blanks,
)
from localspec.chat.loose_calls import tool_name


class ParsedCall(NamedTuple):
    """A call. ``arguments`` is a JSON object as text; ``end`` is the index after the call in the text that was read."""

    name: str
    arguments: str
    end: int


class CallForm(Protocol):
    """One notation of a call."""

    @property
    def unambiguous(self) -> bool:
        """True if the opening of this form occurs in calls only."""

    @property
    def ends(self) -> tuple[str, ...]:
        """Texts of which one ends every call."""

    def find(self, text: str, at_start: bool) -> tuple[int, int] | None:
        """Index of the first call in ``text``, and index at which :meth:`read` begins.

        ``at_start``: nothing but calls came before ``text``.
        """

    def partial_opening(self, text: str, at_start: bool) -> int:
        """Number of characters at the end of ``text`` that may be the beginning of a call's opening."""

    def begun(self, text: str) -> tuple[str, int] | None:
        """The name of a call that is not complete, and the index at which its arguments begin; None before that."""

    def read(self, text: str, names: Collection[str], complete: bool) -> ParsedCall:
        """The call at the beginning of ``text``. ``complete``: the answer ends with ``text``.

        Raises :class:`IncompleteError` if more text must follow, :class:`MalformedError` if it is no call.
        """


#: Beginnings of a call up to its arguments, as templates write it.
_JSON_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*"([^"\\]+)"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)')
_GEMMA_HEAD = re.compile(r"\s*call:([^\s{}()<>]+)(?=\{)")
#: Beginning of a call as in Python.
_PYTHON_CALL = re.compile(r"\s*([^\W\d][\w.:/-]*)\s*\(")


@dataclass(frozen=True)
class MarkedForm:
    """Calls between an opening marker and one of the closing markers."""

    opening: str
    closing: tuple[str, ...]
    unambiguous = True

    @property
    def ends(self) -> tuple[str, ...]:
        return self.closing

    def find(self, text: str, at_start: bool) -> tuple[int, int] | None:
        at = text.find(self.opening)
        return None if at < 0 else (at, at + len(self.opening))

    def partial_opening(self, text: str, at_start: bool) -> int:
        longest = min(len(text), len(self.opening) - 1)
        return next((n for n in range(longest, 0, -1) if text.endswith(self.opening[:n])), 0)

    def read_closing(self, text: str, at: int, complete: bool) -> int:
        """Index after the closing marker, which may be missing at the end of an answer."""
        if complete and any(marker.startswith(text[at:].strip()) for marker in self.closing):
            return len(text)
        return expect(text, at, *self.closing)


class JsonHead:
    """A call that is an object with the name first."""

    def begun(self, text: str) -> tuple[str, int] | None:
        found = _JSON_HEAD.match(text)
        return (found[1], found.end()) if found else None


class MarkedJson(JsonHead, MarkedForm):
    """``<tool_call>\\n{"name": …, "arguments": {…}}\\n</tool_call>``; a tool may be called as in Python, too."""

    def read(self, text: str, names: Collection[str], complete: bool) -> ParsedCall:
        call = _PYTHON_CALL.match(text)
        if call and tool_name(call[1], names) in names:
            value, at = read_object(text, call.end() - 1, "()")
            name, arguments = tool_name(call[1], names), to_json(value)
        else:
            value, at = read_json(text, 0)
            name, arguments = _name_and_arguments(value, names)
        return ParsedCall(name, arguments, self.read_closing(text, at, complete))


class MarkedGemma(MarkedForm):
    """``<|tool_call>call:name{key:<|"|>text<|"|>,other:1}<tool_call|>``, or ``call:name(key=…)``."""

    def begun(self, text: str) -> tuple[str, int] | None:
        found = _GEMMA_HEAD.match(text)
        return (found[1], found.end()) if found else None

    def read(self, text: str, names: Collection[str], complete: bool) -> ParsedCall:
        at = expect(text, 0, "call:")
        found = re.compile(r"[{(]").search(text, at)
        if found is None:
            raise IncompleteError
        name = text[at : found.start()].strip()
        if not re.fullmatch(r"[^\s{}<>]+", name):
            raise MalformedError
        value, at = read_object(text, found.start(), "{}" if found[0] == "{" else "()")
        return ParsedCall(tool_name(name, names), to_json(value), self.read_closing(text, at, complete))


@dataclass(frozen=True)
class BareJson(JsonHead):
    """An answer that is ``{"name": …, "parameters": {…}}`` alone; several calls are separated by ``;``.

    The name must be that of a tool, since an answer may be other JSON, and no other text may follow. ``before`` may
    precede the object (must, if ``required``); ``after`` then follows it.
    """

    before: str
    after: str = ""
    required: bool = False
    unambiguous = False

    @property
    def ends(self) -> tuple[str, ...]:
        return (self.after or "}",)

    def find(self, text: str, at_start: bool) -> tuple[int, int] | None:
        before = re.escape(self.before) if self.required else f"(?:{re.escape(self.before)})?"
        match = re.match(rf"[\s;]*{before}\s*(?={{)", text) if at_start else None
        return (0, match.end()) if match else None

    def partial_opening(self, text: str, at_start: bool) -> int:
        return len(text) if at_start and self.before.startswith(text.lstrip(" \t\r\n;").rstrip()) else 0

    def read(self, text: str, names: Collection[str], complete: bool) -> ParsedCall:
        try:
            value, at = read_json(text, 0)
            name, arguments = _name_and_arguments(value, names)
            if name not in names:
                raise MalformedError
            end = at if not self.after or (complete and not text[at:].strip()) else expect(text, at, self.after)
        except MalformedError as error:
            raise MalformedError(is_call=False) from error
        return ParsedCall(name, arguments, end)


@dataclass(frozen=True)
class Written:
    """Texts of a call as templates write it: before the name, between name and arguments, and behind them.

    ``between_calls`` is None where an answer has one call at most. ``json``: name and arguments are JSON, else they are
    in Gemma's notation.
    """

    before: str
    middle: str
    after: str
    between_calls: str | None
    json: bool = True


@dataclass(frozen=True)
class CallSyntax:
    """Forms of one family of models, in order of precedence.

    ``markers`` are texts that may be single tokens, even tokens without a text of their own. ``rendered`` is the text
    that its templates write before the name of a call, and the text after a call without arguments. ``written`` is the
    form in which a call is forced.
    """

    forms: tuple[CallForm, ...]
    markers: tuple[str, ...]
    rendered: tuple[str, str]
    written: Written

    def find(self, text: str, at_start: bool) -> tuple[int, int, CallForm] | None:
        """The first call in ``text``: the indices of :meth:`CallForm.find`, and its form."""
        found = [(*at, form) for form in self.forms if (at := form.find(text, at_start))]
        return min(found, key=lambda one: one[0], default=None)

    def partial_opening(self, text: str, at_start: bool) -> int:
        """Number of characters at the end of ``text`` that may be the beginning of a call's opening."""
        return max(form.partial_opening(text, at_start) for form in self.forms)


_BARE_FORMS = (
    BareJson("<|python_tag|>"),
    BareJson("```json", "```", required=True),
    BareJson("```", "```", required=True),
)
#: Gemma 4.
GEMMA = CallSyntax(
    (MarkedGemma("<|tool_call>", ("<tool_call|>", "<|tool_response>")),),
    ("<|tool_call>", "<tool_call|>", '<|"|>'),
    ("<|tool_call>", "<tool_call|>"),
    Written("<|tool_call>call:", "", "<tool_call|>", "", json=False),
)
#: Qwen 2.5, Qwen 3, Hermes, SmolLM 3. Small models omit the markers, or write a block of code.
HERMES = CallSyntax(
    (MarkedJson("<tool_call>", ("</tool_call>",)), *_BARE_FORMS),
    ("<tool_call>", "</tool_call>"),
    ("<tool_call>", "</tool_call>"),
    Written('<tool_call>\n{"name": "', '", "arguments": ', "}\n</tool_call>", "\n"),
)
#: Llama 3.1 to 3.3.
LLAMA = CallSyntax(
    _BARE_FORMS,
    ("<|python_tag|>",),
    ('{"name": "', "{}}"),
    Written('{"name": "', '", "parameters": ', "}", None),  # its templates refuse several
)


def find_syntax(template: str) -> CallSyntax | None:
    """The syntax in which a chat template writes calls, None if it is not one of these."""
    if "<|tool_call>call:" in template:
        return GEMMA
    if "<tool_call>" in template and "<function=" not in template:
        return HERMES
    return LLAMA if '"parameters": ' in template and '{"name": "' in template else None


def to_json(arguments: dict[str, Any]) -> str:
    """``arguments`` as JSON text. Raises :class:`MalformedError` for values outside JSON or UTF-8."""
    try:
        text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (ValueError, RecursionError) as error:
        raise MalformedError from error
    return text


def _name_and_arguments(value: Any, names: Collection[str]) -> tuple[str, str]:
    """Name, without a namespace that ``names`` do not have, and arguments of a call that is a JSON object."""
    name = value.get("name") if isinstance(value, dict) else None
    if not isinstance(name, str) or not name:
        raise MalformedError
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):  # some models write the object as a string, as the chat API does
        arguments = _read_whole_json(arguments)
    if not isinstance(arguments, dict):
        raise MalformedError
    return tool_name(name, names), to_json(arguments)


def _read_whole_json(text: str) -> Any:
    try:
        value, end = read_json(text, 0)
    except IncompleteError as error:
        raise MalformedError from error
    if skip_blanks(text, end) != len(text):
        raise MalformedError
    return value
