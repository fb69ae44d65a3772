"""The syntaxes in which chat models call tools, and how calls are taken out of a text that streams.

Invariant: what is not a well-formed call stays in the text, so that nothing a model said is lost. Text is read
character by character in effect: how it came in pieces changes neither the text nor the calls.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from localspec.chat.call_values import Broken, NotYet, blank, gemma_arguments, literal, read_json


class ParsedCall(NamedTuple):
    """``arguments`` is a JSON object as text. ``end``: where the call's own text ends."""

    name: str
    arguments: str
    end: int


class CallForm(Protocol):
    """One way to write a call."""

    @property
    def sure(self) -> bool:
        """Whether what opens a call can be nothing else."""

    @property
    def ends(self) -> tuple[str, ...]:
        """A call is whole when one of these came, at the earliest."""

    def opens(self, text: str, begins: bool) -> tuple[int, int] | None:
        """Where the first call in ``text`` begins, and where what :meth:`read` reads.

        ``begins``: nothing was said yet but calls.
        """

    def may_open(self, text: str, begins: bool) -> int:
        """How many characters at the end of ``text``, which opens no call, may yet become the beginning of one."""

    def read(self, text: str, names: Collection[str], whole: bool) -> ParsedCall:
        """The call at the beginning of ``text``, which nothing follows if ``whole``.

        Raises :class:`NotYet` where more must come, :class:`Broken` for what is no call.
        """


@dataclass(frozen=True)
class Marked:
    """Calls between two markers."""

    opening: str
    closing: tuple[str, ...]
    sure = True

    @property
    def ends(self) -> tuple[str, ...]:
        return self.closing

    def opens(self, text: str, begins: bool) -> tuple[int, int] | None:
        at = text.find(self.opening)
        return None if at < 0 else (at, at + len(self.opening))

    def may_open(self, text: str, begins: bool) -> int:
        longest = min(len(text), len(self.opening) - 1)
        return next((n for n in range(longest, 0, -1) if text.endswith(self.opening[:n])), 0)

    def close(self, text: str, at: int, whole: bool) -> int:
        """The end of the call whose own text ends at ``at``. At the end of an answer the marker may be missing."""
        if whole and any(marker.startswith(text[at:].strip()) for marker in self.closing):
            return len(text)
        return literal(text, at, *self.closing)


class MarkedJson(Marked):
    """``<tool_call>\\n{"name": …, "arguments": {…}}\\n</tool_call>``."""

    def read(self, text: str, names: Collection[str], whole: bool) -> ParsedCall:
        value, at = read_json(text, 0)
        name, arguments = _named(value)
        return ParsedCall(name, arguments, self.close(text, at, whole))


class MarkedGemma(Marked):
    """``<|tool_call>call:name{key:<|"|>text<|"|>,other:1}<tool_call|>``."""

    def read(self, text: str, names: Collection[str], whole: bool) -> ParsedCall:
        at = literal(text, 0, "call:")
        brace = text.find("{", at)
        if brace < 0:
            raise NotYet
        name = text[at:brace]
        if not re.fullmatch(r"[^\s{}:<>]+", name):
            raise Broken
        value, at = gemma_arguments(text, brace)
        return ParsedCall(name, as_json(value), self.close(text, at, whole))


@dataclass(frozen=True)
class BareJson:
    """An answer that is ``{"name": …, "parameters": {…}}`` and nothing else, several apart by ``;``.

    Any other JSON is an answer, so the name must be that of a tool. ``before`` may stand before it, and ``after`` then
    after it.
    """

    before: str
    after: str = ""
    needed: bool = False
    sure = False

    @property
    def ends(self) -> tuple[str, ...]:
        return (self.after or "}",)

    def opens(self, text: str, begins: bool) -> tuple[int, int] | None:
        before = re.escape(self.before) if self.needed else f"(?:{re.escape(self.before)})?"
        match = re.match(rf"[\s;]*{before}\s*(?={{)", text) if begins else None
        return (0, match.end()) if match else None

    def may_open(self, text: str, begins: bool) -> int:
        return len(text) if begins and self.before.startswith(text.lstrip(" \t\r\n;").rstrip()) else 0

    def read(self, text: str, names: Collection[str], whole: bool) -> ParsedCall:
        try:
            value, at = read_json(text, 0)
            if not isinstance(value, dict) or value.get("name") not in names:
                raise Broken
            end = at if not self.after or (whole and not text[at:].strip()) else literal(text, at, self.after)
        except Broken as error:
            raise Broken(expected=False) from error
        return ParsedCall(*_named(value), end)


@dataclass(frozen=True)
class CallSyntax:
    """How one family of models writes calls: forms in the order in which they are looked for.

    ``markers`` are texts that may be single tokens, perhaps tokens without a text of their own. ``rendered`` is what
    its templates write before the name of a call, and after one without arguments.
    """

    forms: tuple[CallForm, ...]
    markers: tuple[str, ...]
    rendered: tuple[str, str]

    def opens(self, text: str, begins: bool) -> tuple[int, int, CallForm] | None:
        """Where the first call in ``text`` begins, where its form reads, and the form."""
        found = [(*at, form) for form in self.forms if (at := form.opens(text, begins))]
        return min(found, key=lambda one: one[0], default=None)

    def may_open(self, text: str, begins: bool) -> int:
        """How many characters at the end of ``text``, which opens no call, may yet become the beginning of one."""
        return max(form.may_open(text, begins) for form in self.forms)


_BARE = (BareJson("<|python_tag|>"), BareJson("```json", "```", needed=True), BareJson("```", "```", needed=True))
#: Gemma 4.
GEMMA = CallSyntax(
    (MarkedGemma("<|tool_call>", ("<tool_call|>", "<|tool_response>")),),
    ("<|tool_call>", "<tool_call|>", '<|"|>'),
    ("<|tool_call>", "<tool_call|>"),
)
#: Qwen 2.5, Qwen 3, Hermes, SmolLM 3. Small ones leave the markers out, or write a block of code.
HERMES = CallSyntax(
    (MarkedJson("<tool_call>", ("</tool_call>",)), *_BARE),
    ("<tool_call>", "</tool_call>"),
    ("<tool_call>", "</tool_call>"),
)
#: Llama 3.1 to 3.3.
LLAMA = CallSyntax(_BARE, ("<|python_tag|>",), ('{"name": "', "{}}"))


def syntax_of(template: str) -> CallSyntax | None:
    """The syntax that a chat template teaches, by what it writes itself; None where it is none of these."""
    if "<|tool_call>call:" in template:
        return GEMMA
    if "<tool_call>" in template and "<function=" not in template:
        return HERMES
    return LLAMA if '"parameters": ' in template and '{"name": "' in template else None


class ToolCalls:
    """Feed the text of one answer; get it back without its calls, which are then in ``found``.

    ``broken`` says that something began as a call and was none.
    """

    def __init__(self, syntax: CallSyntax, names: Collection[str]) -> None:
        self.syntax, self._names = syntax, frozenset(names)
        self.found: list[ParsedCall] = []
        self.broken = False
        self._held = ""
        self._form: CallForm | None = None  # of a call that has begun
        self._body = 0  # where it is in what is held
        self._looked = 0
        self._begins = True

    @property
    def inside(self) -> bool:
        """Whether a call has begun and not ended."""
        return self._form is not None

    def add(self, text: str) -> str:
        """What of the text so far is certain to be no part of a call."""
        self._held += text
        return self._scan(whole=False, last=False)

    def flush(self, *, whole: bool) -> str:
        """The text that was held back. ``whole``: the model ended the answer, so a call may lack its last marker."""
        shown = self._scan(whole=whole, last=True)
        rest, self._held = self._held, ""
        return shown if self.found and not rest.strip() else shown + rest

    def _scan(self, *, whole: bool, last: bool) -> str:
        shown = ""
        while True:
            if self._form is None:
                shown += self._text()
            if self._form is None or not (last or self._may_end(self._form)):
                return shown
            try:
                call = self._form.read(self._held[self._body :], self._names, whole)
            except NotYet:
                if not last:
                    return shown
                shown += self._let_go(broken=self._form.sure)
            except Broken as error:
                shown += self._let_go(broken=error.expected)
            else:
                self.found.append(call)
                self._held, self._form = self._held[self._body + call.end :], None

    def _text(self) -> str:
        """Pass on text up to where a call begins or may begin, without the blanks before it."""
        opened = self.syntax.opens(self._held, self._begins)
        kept = self.syntax.may_open(self._held, self._begins) if opened is None else len(self._held) - opened[0]
        shown = self._held[: len(self._held) - kept].rstrip()
        self._held = self._held[len(shown) :]
        self._begins = self._begins and not shown
        if opened is not None:
            self._body, self._form, self._looked = opened[1] - len(shown), opened[2], 0
        return shown

    def _may_end(self, form: CallForm) -> bool:
        """Whether an end came since the last look, so that a long call is not read again for every token."""
        start = max(self._looked - max(map(len, form.ends)), self._body)
        self._looked = len(self._held)
        return any(self._held.find(end, start) >= 0 for end in form.ends)

    def _let_go(self, *, broken: bool) -> str:
        """What opened a call is text after all; what follows it may open another."""
        shown = self._held[: self._body] or self._held[:1]
        self._held, self._form, self._begins = self._held[len(shown) :], None, False
        self.broken = self.broken or broken
        return shown


def as_json(arguments: dict[str, Any]) -> str:
    """Raises :class:`Broken` for what JSON or UTF-8 cannot say."""
    try:
        text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (ValueError, RecursionError) as error:
        raise Broken from error
    return text


def _named(value: Any) -> tuple[str, str]:
    """Name and arguments of a call that is a JSON object."""
    name = value.get("name") if isinstance(value, dict) else None
    if not isinstance(name, str) or not name:
        raise Broken
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):  # some models write the object as a string, as the chat API has it
        arguments = _whole_json(arguments)
    if not isinstance(arguments, dict):
        raise Broken
    return name, as_json(arguments)


def _whole_json(text: str) -> Any:
    try:
        value, end = read_json(text, 0)
    except NotYet as error:
        raise Broken from error
    if blank(text, end) != len(text):
        raise Broken
    return value
