"""Message lists and tool definitions from JSON."""

from __future__ import annotations

from typing import Any

from localspec.chat.content import content_text
from localspec.chat.tools import check_tool_parts, check_tools
from localspec.cli.input.text import TYPE_NAMES, read_json_file, source_name
from localspec.errors import InputError
from localspec.media.parts import is_media_part, part_media

ROLES = ("system", "developer", "user", "assistant", "tool")

#: A checked message: ``role`` and ``content`` (text, or a list of texts and media), and those of :data:`_TOOL_KEYS`.
MessageDict = dict[str, Any]

#: Keys kept beside role and content: tool calls, their results, and thoughts that led to calls.
_TOOL_KEYS = ("tool_calls", "tool_call_id", "name", "reasoning_content")


def read_messages(path: str) -> list[MessageDict]:
    """Read ``--messages``: a JSON list, or a conversation that the chat's ``/save`` wrote."""
    source, data = source_name(path), read_json_file(path)
    return parse_messages(data["messages"] if isinstance(data, dict) and "messages" in data else data, source)


def read_tools(path: str) -> list[dict[str, Any]]:
    """Read ``--tools``: a JSON list of function definitions, as in the OpenAI chat API."""
    return list(check_tools(read_json_file(path), source_name(path)))


def parse_messages(data: Any, source: str) -> list[MessageDict]:
    """Check a message list from JSON. Keys that no template reads are left out."""
    if not isinstance(data, list):
        raise InputError(f'{source} holds {TYPE_NAMES[type(data)]}; it must be a JSON list of {{"role", "content"}}.')
    if not data:
        raise InputError(f"{source} holds an empty list; it needs at least one message.")
    messages = [_message(item, f"message {number} of {source}") for number, item in enumerate(data, start=1)]
    check_tool_parts(messages, lambda number: f"message {number} of {source}", 1)
    return messages


def require_question(messages: list[MessageDict], source: str, *, continued: bool = False) -> list[MessageDict]:
    """Return the messages if the last one can be answered, or ``continued``."""
    last = messages[-1]["role"]
    if continued:
        if last != "assistant":
            raise InputError(f"the last message of {source} has the role {last}; --continue needs an assistant's.")
    elif last not in ("user", "tool"):
        hint = ", or add --continue" if last == "assistant" else ""
        raise InputError(f"the last message of {source} has the role {last}; end with a user message to answer{hint}.")
    return messages


def _message(item: Any, place: str) -> MessageDict:
    if not isinstance(item, dict):
        raise InputError(f'{place} is {TYPE_NAMES[type(item)]}; it must be {{"role": ..., "content": ...}}.')
    role = _string(item, "role", place)
    if role not in ROLES:
        raise InputError(f'{place} has the role "{role}"; it must be one of {", ".join(ROLES)}.')
    silent = item.get("content") is None and item.get("tool_calls")
    message = {"role": role, "content": "" if silent else _content(item, place)}
    return {**message, **{key: item[key] for key in _TOOL_KEYS if item.get(key)}}


def _content(item: dict[str, Any], place: str) -> str | list[Any]:
    """The text of a content, whose parts are joined, or a list of texts, pictures and sounds."""
    parts = item.get("content")
    if not isinstance(parts, list):
        return _string(item, "content", place)
    if not any(is_media_part(part) for part in parts):
        return _string({"content": content_text(parts, place)}, "content", place)
    return [_part(part, f"part {number} of {place}") for number, part in enumerate(parts, start=1)]


def _part(part: Any, place: str) -> Any:
    if is_media_part(part):
        return part_media(part, place)
    return {"type": "text", "text": _string({"text": content_text([part], place)}, "text", place)}


def _string(item: dict[str, Any], key: str, place: str) -> str:
    if key not in item:
        raise InputError(f'{place} has no "{key}"; each message is {{"role": ..., "content": ...}}.')
    value = item[key]
    if not isinstance(value, str):
        raise InputError(f'{place} has {TYPE_NAMES[type(value)]} as "{key}"; it must be a string.')
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(f'{place} has half of a surrogate pair in its "{key}"; write whole characters.') from None
    return value
