"""Read prompts from a file of JSON lines ``{"id", "category", "messages"}``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from localspec.bench.prompts import BenchPrompt
from localspec.bench.prompts import read_prompts as bench_prompts
from localspec.errors import InputError
from scripts.bench.measure.records import Unit
from scripts.bench.measure.schedule import round_robin

#: Prompt that both sides answer before the first measurement. It is in no prompt file, because a peer that keeps
#: n-grams must not have seen a measured prompt.
WARM_UP = (
    "List the months of the year, one on each line, and write after each how many days it has. Then write the same "
    "list once more in reverse order, and say which months have thirty days."
)


def read_prompts(path: Path, categories: Sequence[str] = ()) -> list[BenchPrompt]:
    """Return the prompts of ``categories`` (default: all). Exits at a line that is no prompt."""
    try:
        found = [one for one in bench_prompts(path) if not categories or one.category in categories]
    except InputError as error:
        raise SystemExit(str(error)) from error
    if not found:
        raise SystemExit(f"{path} has no prompts of {', '.join(categories)}")
    return found


def units_of(prompts: Sequence[BenchPrompt], per_category: int | None, repeats: int) -> list[Unit]:
    """Return units round-robin over the categories, pass after pass."""
    chosen = round_robin(prompts, lambda prompt: prompt.category, per_category)
    return [Unit(prompt.id, prompt.category, turn) for turn in range(repeats) for prompt in chosen]
