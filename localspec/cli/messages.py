"""Prompts and message lists from outside: read, decoded, checked. Knows nothing about models.

Each thing that can be wrong has its own sentence, which names the file and the place in it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

from localspec.chat.tools import check_tool_parts
from localspec.errors import InputError

ROLES = ("system", "developer", "user", "assistant", "tool")

Message = dict[str, Any]

#: Kept beside role and content where a message has them: calls, results of calls, and thoughts that led to calls.
_TOOL_KEYS = ("tool_calls", "tool_call_id", "name", "reasoning_content")

KINDS = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "a truth value",
    int: "a number",
    float: "a number",
    type(None): "null",
}


def decode(data: bytes, where: str, offset: int = 0) -> str:
    """UTF-8 ``data`` as text, a byte-order mark left out. ``offset`` is where ``data`` starts in ``where``."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        place = offset + error.start
        raise InputError(
            f"{where} is not valid UTF-8 at byte {place} (0x{data[error.start]:02x}); convert it to UTF-8."
        ) from None
    return text.removeprefix("\ufeff") if offset == 0 else text


def argument(text: str, name: str) -> str:
    """A command-line value, checked: the shell may have passed bytes that are no UTF-8."""
    if not text.isascii():
        decode(os.fsencode(text), name)
    return text


def standard_input() -> BinaryIO:
    return sys.stdin.buffer


def read_bytes(path: str) -> bytes:
    """All bytes of a file; ``-`` is standard input."""
    if path == "-":
        return standard_input().read()
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise InputError(f"there is no file {path}; check the name.") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder; give a file.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read ({reason}).") from None


def label(path: str) -> str:
    return "standard input" if path == "-" else path


def read_text(path: str) -> str:
    """A prompt from a file; the line end that editors and ``echo`` put at its end is left out."""
    text = decode(read_bytes(path), label(path))
    return text.removesuffix("\n").removesuffix("\r")


def parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if "\n" in text else ""
        place = f"{line}column {error.colno}"
        raise InputError(f"{where} is not JSON: {error.msg} ({place}).") from None
    except (ValueError, RecursionError):
        raise InputError(
            f"{where} is not JSON that can be read: it is nested too deeply or holds a huge number."
        ) from None


def _text_of(item: dict[str, Any], key: str, place: str) -> str:
    if key not in item:
        raise InputError(f'{place} has no "{key}"; each message is {{"role": ..., "content": ...}}.')
    value = item[key]
    if not isinstance(value, str):
        raise InputError(f'{place} has {KINDS[type(value)]} as "{key}"; it must be a string.')
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(f'{place} has half of a surrogate pair in its "{key}"; write whole characters.') from None
    return value


def check_messages(data: Any, where: str) -> list[Message]:
    """A message list from parsed JSON. Keys that no template asks for are left out."""
    if not isinstance(data, list):
        raise InputError(f'{where} holds {KINDS[type(data)]}; it must be a JSON list of {{"role", "content"}}.')
    if not data:
        raise InputError(f"{where} holds an empty list; it needs at least one message.")
    messages = []
    for number, item in enumerate(data, start=1):
        place = f"message {number} of {where}"
        if not isinstance(item, dict):
            raise InputError(f'{place} is {KINDS[type(item)]}; it must be {{"role": ..., "content": ...}}.')
        role = _text_of(item, "role", place)
        if role not in ROLES:
            raise InputError(f'{place} has the role "{role}"; it must be one of {", ".join(ROLES)}.')
        silent = item.get("content") is None and item.get("tool_calls")
        message = {"role": role, "content": "" if silent else _text_of(item, "content", place)}
        messages.append({**message, **{key: item[key] for key in _TOOL_KEYS if item.get(key)}})
    check_tool_parts(messages, lambda number: f"message {number} of {where}", 1)
    return messages


def read_json(path: str) -> Any:
    """What a JSON file holds."""
    where = label(path)
    return parse_json(decode(read_bytes(path), where), where)


def read_messages(path: str) -> list[Message]:
    """``--messages``: a JSON list, or a conversation that the chat's ``/save`` wrote."""
    where, data = label(path), read_json(path)
    return check_messages(data["messages"] if isinstance(data, dict) and "messages" in data else data, where)


def require_question(messages: list[Message], where: str) -> list[Message]:
    """The same messages, if there is something in them to answer."""
    last = messages[-1]["role"]
    if last not in ("user", "tool"):
        raise InputError(f"the last message of {where} has the role {last}; end with a user message to answer.")
    return messages


def lines(stream: Iterator[bytes], where: str) -> Iterator[str]:
    """The lines of a byte stream as they come, without line ends; bad UTF-8 is told with its offset in the stream."""
    offset = 0
    for raw in stream:
        yield decode(raw, where, offset).rstrip("\r\n")
        offset += len(raw)
