"""Messages to prompt text, by the model's own Jinja template in a sandbox.

A model file is untrusted: its template runs without access to Python's internals, and anything that it raises becomes a
:class:`TemplateError`.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from jinja2 import TemplateError as JinjaError
from jinja2.exceptions import SecurityError, TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from localspec.chat.call_syntax import GEMMA, find_syntax
from localspec.chat.content import content_text
from localspec.chat.thinking import opens_thought
from localspec.chat.tools import check_tool_parts
from localspec.errors import InputError, TemplateError

Message = Mapping[str, Any]
Tools = Sequence[Mapping[str, Any]]
#: Characters that a template may write. A hostile one cannot fill the memory.
_MAX_TEXT = 64 * 2**20
#: End of a turn in Gemma's templates.
_GEMMA_END = "<turn|>\n"
#: Stands for a reply in a rendered chat; no message contains it by accident.
_SENTINEL = "localspec\u2063reply\u2063here"


class _GenerationBlocks(Extension):
    """``{% generation %}`` blocks, with which training programs mark replies; the text is that without the tags."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's declaration

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class ChatTemplate:
    """One model's chat template. ``bos`` and ``eos`` are the texts of those tokens; ``name`` is its name in errors.

    ``call_syntax`` is the syntax in which the template writes tool calls; None if it is unknown or there are no tools.
    """

    def __init__(self, source: str, *, bos: str = "", eos: str = "", name: str = "the model's chat template") -> None:
        self._specials, self._name = {"bos_token": bos, "eos_token": eos}, name
        self.call_syntax = find_syntax(source)
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _GenerationBlocks]
        )
        environment.globals.update(
            raise_exception=_raise, strftime_now=lambda form: datetime.datetime.now().strftime(form)
        )
        environment.filters["tojson"] = _tojson
        try:
            self._template = environment.from_string(source)
        except Exception as error:  # Jinja's errors, or those of Python's compiler for the code that Jinja made
            raise TemplateError(
                f"{name} cannot be parsed: {_reason(error)}; give another one (--chat-template-file), or use --raw."
            ) from error

    def render(
        self, messages: Sequence[Message], *, reply: bool = True, thinking: bool = False, tools: Tools = ()
    ) -> str:
        """The prompt text; with ``reply`` it ends where the model's answer begins.

        Raises :class:`TemplateError` if the template raises or tries to leave the sandbox.
        """
        try:
            text = self._render(messages, reply=reply, thinking=thinking, tools=tools)
        except TemplateError:
            with_text = _with_text_arguments(messages)
            if with_text is None:
                raise
            text = self._render(with_text, reply=reply, thinking=thinking, tools=tools)
        if reply and self.call_syntax is GEMMA and text.endswith(_GEMMA_END):
            # After an answer with text, calls and results the template opens no turn; llama.cpp adds it, too.
            text += "<|turn>model\n"
        return text

    def _render(self, messages: Sequence[Message], *, reply: bool, thinking: bool, tools: Tools) -> str:
        parts: list[str] = []
        size = 0
        given = {"tools": [dict(tool) for tool in tools]} if tools else {}
        try:
            for part in self._template.generate(
                messages=[dict(message) for message in messages],
                add_generation_prompt=reply,
                enable_thinking=thinking,
                **given,
                **self._specials,
            ):
                parts.append(part)
                size += len(part)
                if size > _MAX_TEXT:
                    raise TemplateError(f"{self._name} writes without end. Use --raw.")
        except SecurityError as error:
            raise TemplateError(
                f"{self._name} tried to leave its sandbox ({_reason(error)}). Do not trust this file; "
                "--raw works without its template."
            ) from error
        except TemplateError:
            raise
        except Exception as error:  # a template may raise anything
            raise TemplateError(
                f"{self._name} refused these messages: {_reason(error)}. Check their roles and order, or use --raw."
            ) from error
        return "".join(parts)

    def before_final(self, messages: Sequence[Message], *, thinking: bool, tools: Tools = ()) -> str | None:
        """The text before the content of the final message, a reply; None if its place cannot be found.

        Where the prompt of a reply goes on with an empty thought, which the history does not show, so does this text.
        """
        found = self.split_at_reply(messages, len(messages) - 1, thinking=thinking, tools=tools, reply=False)
        if found is None:
            return None
        try:
            prompt = self.render(messages[:-1], thinking=thinking, tools=tools)
        except TemplateError:  # some refuse a chat without a question
            return found[0]
        return prompt if prompt.startswith(found[0]) and not opens_thought(prompt) else found[0]

    def keeps_final(self, messages: Sequence[Message], *, thinking: bool, tools: Tools = ()) -> bool:
        """True if the template writes the content of the final message, a reply, as it is, but for blanks around it."""
        found = self.split_at_reply(messages, len(messages) - 1, thinking=thinking, tools=tools, reply=False)
        if found is None:
            return False
        (head, tail), text = found, self.render(messages, reply=False, thinking=thinking, tools=tools)
        written = text[len(head) : len(text) - len(tail)]
        return text == head + written + tail and written.strip() == messages[-1]["content"].strip()

    def split_at_reply(
        self, messages: Sequence[Message], index: int, *, thinking: bool, tools: Tools = (), reply: bool = True
    ) -> tuple[str, str] | None:
        """The text before and after the reply ``messages[index]``, None if its place cannot be found.

        ``reply`` is that of :meth:`render`.
        """
        marked = [dict(message) for message in messages]
        names = [call["function"]["name"] for call in marked[index].get("tool_calls") or ()]
        marked[index]["content"] = "" if names else _SENTINEL
        if names:
            marked[index]["tool_calls"] = [
                {**call, "function": {"name": _sentinel_name(number), "arguments": {}}}
                for number, call in enumerate(marked[index]["tool_calls"])
            ]
        rendered = self.render(marked, reply=reply, thinking=thinking, tools=tools)
        found = self._split_at_calls(rendered, names) if names else _split_at(rendered, _SENTINEL)
        return found if found and _SENTINEL not in found[1] else None

    def _split_at_calls(self, rendered: str, names: Sequence[str]) -> tuple[str, str] | None:
        """The text before and after the calls of a reply, whose names are sentinels in ``rendered``."""
        opening, closing = self.call_syntax.rendered if self.call_syntax else ("", "")
        first, last = rendered.find(_sentinel_name(0)), rendered.find(_sentinel_name(len(names) - 1))
        start, end = rendered.rfind(opening, 0, first), rendered.find(closing, last)
        if min(first, last, start, end) < 0 or not opening:
            return None
        tail = rendered[end + len(closing) :]
        for number, name in enumerate(names):  # a tool's result may contain its name
            tail = tail.replace(_sentinel_name(number), name)
        return rendered[:start], tail


def _sentinel_name(number: int) -> str:
    return f"{_SENTINEL}{number}\u2063"


def _split_at(text: str, sentinel: str) -> tuple[str, str] | None:
    head, found, tail = text.partition(sentinel)
    return (head, tail) if found else None


def _with_text_arguments(messages: Sequence[Message]) -> list[Message] | None:
    """``messages`` with the arguments of calls as text, which some templates need; None without calls."""
    if not any(message.get("tool_calls") for message in messages):
        return None
    return [
        message
        if not message.get("tool_calls")
        else {
            **message,
            "tool_calls": [
                {**call, "function": {**call["function"], "arguments": _tojson(call["function"]["arguments"])}}
                for call in message["tool_calls"]
            ],
        }
        for message in messages
    ]


def check_messages(messages: Sequence[Message]) -> None:
    """Raise :class:`InputError` unless ``messages`` are a non-empty list of ``{"role": text, "content": text}``.

    A content may be a list of parts that are text. An assistant message with tool calls may have no content.
    """
    if isinstance(messages, (str, bytes)) or not isinstance(messages, Sequence) or not messages:
        raise InputError(f"messages are {type(messages).__name__!r}; give a list of at least one message.")
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise InputError(f'message {i} is {message!r:.80}; it must be {{"role": ..., "content": ...}}.')
        if not isinstance(message.get("role"), str):
            raise InputError(f"message {i} has role {message.get('role')!r:.80}; it must be text.")
        if message.get("content") is not None or not message.get("tool_calls"):
            content_text(message.get("content"), f"message {i}")
    check_tool_parts(messages)


def _reason(error: Exception) -> str:
    """The message of an error in a template, on one line; of a syntax error its first sentence, and the line."""
    text = " ".join((error.message or "" if isinstance(error, JinjaError) else str(error)).split())
    if isinstance(error, TemplateSyntaxError):
        return f"{text.partition('. ')[0].rstrip('.')} (line {error.lineno})"
    return (text or type(error).__name__).rstrip(".")


def _raise(message: str) -> NoReturn:
    raise JinjaError(message)


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)
