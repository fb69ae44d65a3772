"""Files of prompts for ``generate --jsonl``: a JSON object a line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from localspec.cli.messages import (
    KINDS,
    Message,
    check_messages,
    label,
    lines,
    parse_json,
    read_bytes,
    require_question,
)
from localspec.cli.options.format import line_format
from localspec.errors import InputError


@dataclass(frozen=True)
class Job:
    """A line of ``--jsonl``; ``format`` is what it says of how its answer must look."""

    id: str | int
    messages: list[Message]
    format: dict[str, Any] = field(default_factory=dict)


def _job(line: str, where: str) -> Job:
    data = parse_json(line, where)
    if not isinstance(data, dict):
        raise InputError(f'{where} holds {KINDS[type(data)]}; it must be {{"id": ..., "messages": [...]}}.')
    for key in ("id", "messages"):
        if key not in data:
            raise InputError(f'{where} has no "{key}"; a line is {{"id": ..., "messages": [...]}}.')
    if isinstance(data["id"], bool) or not isinstance(data["id"], (str, int)):
        raise InputError(f'{where} has {KINDS[type(data["id"])]} as "id"; it must be a string or a whole number.')
    messages = require_question(check_messages(data["messages"], where), where)
    return Job(data["id"], messages, line_format(data, where))


def read_jobs(path: str) -> list[Job]:
    """``--jsonl``: all lines, checked before the first is answered. Blank lines are skipped."""
    where = label(path)
    texts = lines(iter(read_bytes(path).splitlines(keepends=True)), where)
    jobs = [_job(text, f"line {number} of {where}") for number, text in enumerate(texts, start=1) if text.strip()]
    if not jobs:
        raise InputError(f'{where} holds no prompt; it needs a line {{"id": ..., "messages": [...]}} for each.')
    return jobs
