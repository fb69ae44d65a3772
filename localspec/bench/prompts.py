"""Read prompts to measure on: a file of JSON lines ``{"id", "category", "messages"}``, or the built-in ones."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localspec.errors import InputError

#: Two prompts for each of eight categories.
BUILT_IN = Path(__file__).parent / "prompts.jsonl"
#: A line of a file, for messages.
_FORM = '{"id": ..., "category": ..., "messages": [{"role": ..., "content": ...}]}'
_ROLES = ("system", "developer", "user", "assistant", "tool")


@dataclass(frozen=True)
class BenchPrompt:
    """One prompt: ``messages`` end with a user message."""

    id: str
    category: str
    messages: tuple[dict[str, Any], ...]


def read_prompts(path: str | Path | None = None) -> list[BenchPrompt]:
    """Return the prompts of a file, or the built-in ones. Raises :class:`InputError` naming the line at fault."""
    source = BUILT_IN if path is None else Path(path)
    try:
        text = source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{source} is not valid UTF-8 at byte {error.start}; convert it to UTF-8.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{source} cannot be read ({getattr(error, 'strerror', None) or error}).") from None
    lines = enumerate(text.split("\n"), 1)
    prompts = [_prompt(line, f"line {number} of {source}") for number, line in lines if line.strip()]
    if not prompts:
        raise InputError(f"{source} holds no prompt; it needs a line {_FORM} for each.")
    seen = set[str]()
    for prompt in prompts:
        if prompt.id in seen:
            raise InputError(f"{source} has the id {prompt.id!r} twice; each prompt needs its own.")
        seen.add(prompt.id)
    return prompts


def _prompt(line: str, where: str) -> BenchPrompt:
    try:
        data = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where} is not JSON: {error.msg} (column {error.colno}).") from None
    except (ValueError, RecursionError):
        raise InputError(f"{where} is not JSON that can be read: too deep, or with a huge number.") from None
    if not isinstance(data, dict):
        raise InputError(f"{where} is not a JSON object; a line is {_FORM}.")
    for key in ("id", "messages"):
        if key not in data:
            raise InputError(f'{where} has no "{key}"; a line is {_FORM}.')
    id, category = data["id"], data.get("category", "all")
    for key, value in (("id", id), ("category", category)):
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise InputError(f'{where} has {value!r:.40} as "{key}"; it must be a short text.')
    return BenchPrompt(str(id), str(category), _messages(data["messages"], where))


def _messages(data: Any, where: str) -> tuple[dict[str, Any], ...]:
    if not isinstance(data, list) or not data:
        raise InputError(f'{where} has {data!r:.40} as "messages"; it must be a list of messages, one at least.')
    for number, message in enumerate(data, 1):
        valid = isinstance(message, dict) and message.get("role") in _ROLES
        if not valid or not isinstance(message.get("content"), str):
            raise InputError(
                f'message {number} in {where} is {message!r:.60}; it must be {{"role": one of {", ".join(_ROLES)}, '
                '"content": text}.'
            )
        try:
            message["content"].encode()
        except UnicodeEncodeError:
            raise InputError(
                f"message {number} in {where} has half of a surrogate pair; write whole characters."
            ) from None
    if data[-1]["role"] != "user":
        raise InputError(f"the last message in {where} has the role {data[-1]['role']}; end with a user message.")
    return tuple(data)


def choose(prompts: Iterable[BenchPrompt], categories: Iterable[str]) -> list[BenchPrompt]:
    """Return prompts of ``categories`` (default: all): the first of each category, then the second of each.

    This order covers all categories evenly when a run is cut short. Raises :class:`InputError` for an unknown category.
    """
    queues: dict[str, list[BenchPrompt]] = {}
    for prompt in prompts:
        queues.setdefault(prompt.category, []).append(prompt)
    wanted = dict.fromkeys(categories)
    for category in wanted:
        if category not in queues:
            raise InputError(f"there is no prompt of the category {category!r}; there are {', '.join(queues)}.")
    kept = [queues[category] for category in wanted or queues]
    depth = max((len(queue) for queue in kept), default=0)
    return [queue[i] for i in range(depth) for queue in kept if i < len(queue)]
