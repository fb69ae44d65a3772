"""Files of prompts for ``generate --jsonl``: a JSON object a line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from localspec.cli.input.messages import MessageDict, parse_messages, require_question
from localspec.cli.input.text import TYPE_NAMES, decoded_lines, parse_json, read_bytes, source_name
from localspec.errors import InputError, LocalspecError, MissingFeatureError


@dataclass(frozen=True)
class JsonlPrompt:
    """A line of ``--jsonl``. ``answer_format``: its own ``response_format`` or ``grammar``, if it has one."""

    id: str | int
    messages: list[MessageDict]
    answer_format: dict[str, Any] = field(default_factory=dict)


def read_jsonl(path: str, *, continued: bool = False) -> list[JsonlPrompt]:
    """Read and check all lines, whose last messages are ``continued`` or answered. Blank lines are skipped."""
    source = source_name(path)
    texts = decoded_lines(iter(read_bytes(path).splitlines(keepends=True)), source)
    found = [
        _prompt(text, f"line {number} of {source}", continued)
        for number, text in enumerate(texts, start=1)
        if text.strip()
    ]
    if not found:
        raise InputError(f'{source} holds no prompt; it needs a line {{"id": ..., "messages": [...]}} for each.')
    return found


def line_format(data: dict[str, Any], source: str) -> dict[str, Any]:
    """The checked ``response_format`` or ``grammar`` of a line."""
    own = {key: data[key] for key in ("response_format", "grammar") if data.get(key) is not None}
    if not own:
        return {}
    from localspec.grammar.answer import answer_grammar

    try:
        answer_grammar(own.get("response_format"), own.get("grammar"))
    except MissingFeatureError:
        raise
    except LocalspecError as error:
        raise InputError(f"{source}: {error}") from None
    return own


def _prompt(line: str, source: str, continued: bool) -> JsonlPrompt:
    data = parse_json(line, source)
    if not isinstance(data, dict):
        raise InputError(f'{source} holds {TYPE_NAMES[type(data)]}; it must be {{"id": ..., "messages": [...]}}.')
    for key in ("id", "messages"):
        if key not in data:
            raise InputError(f'{source} has no "{key}"; a line is {{"id": ..., "messages": [...]}}.')
    if isinstance(data["id"], bool) or not isinstance(data["id"], (str, int)):
        raise InputError(f'{source} has {TYPE_NAMES[type(data["id"])]} as "id"; it must be a string or a whole number.')
    messages = require_question(parse_messages(data["messages"], source), source, continued=continued)
    return JsonlPrompt(data["id"], messages, line_format(data, source))
