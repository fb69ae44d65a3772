"""Prompts from a file of JSON lines ``{"id", "category", "messages"}``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from measure.records import Unit
from measure.schedule import round_robin

#: What both sides answer before anything is measured. It is in no prompt file: a peer that remembers n-grams must not
#: have seen what it is measured on.
WARM_UP = (
    "List the months of the year, one on each line, and write after each how many days it has. Then write the same "
    "list once more in reverse order, and say which months have thirty days."
)


@dataclass(frozen=True)
class Prompt:
    id: str
    category: str
    messages: list[dict[str, str]]


def read_prompts(path: Path, categories: Sequence[str] = ()) -> list[Prompt]:
    """All prompts of these categories (of all when none is named). Ends the program at a line that is no prompt."""
    found = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SystemExit(f"{path} cannot be read: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            prompt = Prompt(str(row["id"]), str(row["category"]), list(row["messages"]))
        except (ValueError, KeyError, TypeError) as error:
            raise SystemExit(f"{path}, line {number}: {error}; each line is {{id, category, messages}}") from error
        if not categories or prompt.category in categories:
            found.append(prompt)
    if not found:
        raise SystemExit(f"{path} has no prompts of {', '.join(categories) or 'any category'}")
    return found


def units_of(prompts: Sequence[Prompt], per_category: int | None, repeats: int) -> list[Unit]:
    """Round-robin over the categories, all of a pass before the next."""
    chosen = round_robin(prompts, lambda prompt: prompt.category, per_category)
    return [Unit(prompt.id, prompt.category, turn) for turn in range(repeats) for prompt in chosen]
