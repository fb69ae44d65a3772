"""Check tools, tool calls and their results, and convert them to the form of chat templates.

The shapes are those of the OpenAI chat API. An error message begins with the place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from localspec.chat.content import content_text
from localspec.errors import InputError, UsageError

Tool = Mapping[str, Any]
#: ``{"type": "function", "function": {"name": ...}}`` forces a call of that tool.
ToolChoice = Literal["auto", "none", "required"] | Mapping[str, Any]
_SHAPE = '{"type": "function", "function": {"name": ..., "description": ..., "parameters": {...}}}'
_CALL = '{"id": ..., "type": "function", "function": {"name": ..., "arguments": ...}}'


class Function(TypedDict):
    """Function of a call; ``arguments`` is a JSON object as text."""

    name: str
    arguments: str


class ToolCall(TypedDict):
    """One call of a tool by a model."""

    id: str
    type: Literal["function"]
    function: Function


def check_tools(tools: Any, where: str = "tools") -> tuple[dict[str, Any], ...]:
    """Copy ``tools``, a list of function definitions, to plain dictionaries. Raises :class:`InputError`."""
    if tools is None:
        return ()
    if isinstance(tools, (str, bytes, Mapping)) or not isinstance(tools, Sequence):
        raise InputError(f"{where}: {_kind(tools)} in place of a list; give a list of {_SHAPE}.")
    found, names = [], set()
    for number, tool in enumerate(tools, start=1):
        place = f"tool {number} of {where}"
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or tool.get("type", "function") != "function":
            raise InputError(f"{place} is {_show(tool)}; it must be {_SHAPE}.")
        name = function.get("name")
        if not isinstance(name, str) or not name.strip():
            raise InputError(f'{place} has the name {_show(name)}; "function" needs a "name".')
        if name in names:
            raise InputError(f"{place} is a second tool of the name {name}; give each its own.")
        names.add(name)
        _check_definition(function, place)
        found.append({**tool, "type": "function", "function": dict(function)})
    return tuple(found)


def _check_definition(function: Mapping[str, Any], place: str) -> None:
    if not isinstance(function.get("description", ""), str):
        raise InputError(f'{place} has the "description" {_show(function["description"])}; it must be text.')
    parameters = function.get("parameters", {})
    if not isinstance(parameters, Mapping):
        raise InputError(f'{place} has the "parameters" {_show(parameters)}; they must be a JSON schema, an object.')
    try:
        json.dumps(function, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{place} holds a value that JSON does not have: {error}.") from error


@dataclass(frozen=True)
class Choice:
    """The tools that a prompt offers, and the names of those of which one must be called; empty: none must.

    ``several``: an answer may have more than one call.
    """

    offered: tuple[dict[str, Any], ...] = ()
    forced: tuple[str, ...] = ()
    several: bool = True


def check_choice(choice: Any, tools: tuple[dict[str, Any], ...], several: Any = True) -> Choice:
    """The choice among checked ``tools`` that OpenAI's ``tool_choice`` makes. None is ``auto``.

    Raises :class:`UsageError` for other values, and names that no tool has.
    """
    if not isinstance(several, bool):
        raise UsageError(f"parallel_tool_calls is {several!r:.40}; it must be True or False.")
    names = tuple(tool["function"]["name"] for tool in tools)
    if choice in (None, "auto"):
        return Choice(tools, (), several)
    if choice == "none":
        return Choice()
    if choice == "required":
        wanted, forced = names, True
    elif (name := _chosen_name(choice)) is not None:
        wanted, forced, several = (name,), True, False
    elif isinstance(choice, Mapping) and choice.get("type") == "allowed_tools":
        wanted, forced = _allowed(choice)
    else:
        raise _wrong_choice(choice)
    missing = sorted(set(wanted) - set(names))
    if missing or not wanted:
        there = ", ".join(names) or "none"
        what = f"names {missing[0]!r:.80}" if missing else "asks for a call"
        raise UsageError(f"tool_choice {what}, and the tools are: {there}; give it among tools.")
    if forced:
        return Choice(tools, wanted, several)
    return Choice(tuple(tool for tool in tools if tool["function"]["name"] in wanted), (), several)


def _chosen_name(choice: Any) -> str | None:
    """The name in ``{"type": "function", "function": {"name": ...}}``, None for another shape."""
    if not isinstance(choice, Mapping) or choice.get("type") != "function":
        return None
    function = choice.get("function")
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) else None


def _allowed(choice: Mapping[str, Any]) -> tuple[tuple[str, ...], bool]:
    """The names in OpenAI's ``allowed_tools``, and True if one of them must be called."""
    inner = choice.get("allowed_tools")
    tools, mode = (inner.get("tools"), inner.get("mode")) if isinstance(inner, Mapping) else (None, None)
    names = [_chosen_name(tool) for tool in tools] if isinstance(tools, (list, tuple)) else [None]
    if mode not in ("auto", "required") or None in names:
        raise _wrong_choice(choice)
    return tuple(name for name in names if name is not None), mode == "required"


def _wrong_choice(choice: Any) -> UsageError:
    return UsageError(
        f"tool_choice is {_show(choice)}; it must be 'auto', 'none', 'required' or "
        '{"type": "function", "function": {"name": ...}}.'
    )


def check_tool_parts(
    messages: Sequence[Mapping[str, Any]], place: Callable[[int], str] = "message {}".format, first: int = 0
) -> None:
    """Check the calls and results in ``messages``. ``place`` names a message by its number, from ``first`` on."""
    called: set[str] = set()
    for number, message in enumerate(messages, start=first):
        here = place(number)
        calls = message.get("tool_calls")
        if calls:
            if message.get("role") != "assistant":
                raise InputError(f'{here} has "tool_calls" and the role {message.get("role")}; only assistants call.')
            called.update(_check_calls(calls, here))
        if message.get("role") == "tool":
            _check_result(message, called, here)


def _check_calls(calls: Any, here: str) -> list[str]:
    if not isinstance(calls, (list, tuple)):
        raise InputError(f'{here} has {_kind(calls)} as "tool_calls"; it must be a list of {_CALL}.')
    for number, call in enumerate(calls, start=1):
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping):
            raise InputError(f"call {number} of {here} is {_show(call)}; it must be {_CALL}.")
        for key, value in (("id", call.get("id")), ("name", function.get("name"))):
            if not isinstance(value, str) or not value:
                raise InputError(f'call {number} of {here} has the "{key}" {_show(value)}; it must be text.')
        _arguments(function.get("arguments", {}), f"call {number} of {here}")
    return [call["id"] for call in calls]


def _check_result(message: Mapping[str, Any], called: set[str], here: str) -> None:
    name = message.get("tool_call_id")
    if not isinstance(name, str) or not name:
        raise InputError(f'{here} has the role tool and no "tool_call_id"; give the id of the call that it answers.')
    if name not in called:
        raise InputError(f'{here} answers the call "{name}", which no earlier message made; check its "tool_call_id".')


def _arguments(value: Any, place: str) -> dict[str, Any]:
    """The arguments of a call as an object; a template may serialise them in its own way."""
    found = value
    if isinstance(value, str):
        try:
            found = json.loads(value or "{}")
        except (ValueError, RecursionError):
            found = None
    if not isinstance(found, Mapping):
        raise InputError(f'{place} has the "arguments" {_show(value)}; they must be a JSON object.')
    return dict(found)


def template_messages(messages: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Checked ``messages`` in the form of templates: content is text, arguments of calls are objects."""
    found = []
    for message in messages:
        plain = dict(message)
        calls = plain.pop("tool_calls", None)
        plain["content"] = content_text(plain.get("content") or "", "a message")
        if calls:
            plain["tool_calls"] = [
                {
                    "id": call["id"],
                    "type": "function",
                    "function": {
                        "name": call["function"]["name"],
                        "arguments": _arguments(call["function"].get("arguments", {}), "a call"),
                    },
                }
                for call in calls
            ]
        found.append(plain)
    return tuple(found)


def make_tool_calls(calls: Sequence[tuple[str, str]], ids: Callable[[int], str]) -> tuple[ToolCall, ...]:
    """``calls``, names with arguments, in the form of the chat API. ``ids``: number of a call → its id."""
    return tuple(
        {
            "id": ids(number),
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }
        for number, (name, arguments) in enumerate(calls)
    )


def call_id(seed: int, position: int, number: int) -> str:
    """The id of an answer's ``number``-th call, a hash: equal for equal output, different in every turn of a chat.

    ``position`` is the number of tokens before the answer.
    """
    digest = hashlib.sha256(f"{seed}:{position}:{number}".encode()).hexdigest()
    return f"call_{digest[:24]}"


def _kind(value: Any) -> str:
    return f"{type(value).__name__!r}"


def _show(value: Any) -> str:
    return f"{value!r:.80}"
