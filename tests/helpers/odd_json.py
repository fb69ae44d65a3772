"""JSON values that a reader does not expect, and every place to put them."""

from __future__ import annotations

import copy
from typing import Any

ODD: list[Any] = [
    *(None, True, 0, -1, 1, 2**31, 2**70, 1.5, float("nan"), 1e400),
    *("", "x", "\ud800", "\n", [], [1], ["x"], [None], [[]], [{}], {}, {"a": 1}),
]


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value; of long tables and lists only the ends."""
    found = [path]
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    for key in keys if len(keys) <= 30 else [*keys[:2], *keys[-2:]]:
        found += paths(value[key], (*path, key))
    return found


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    value = copy.copy(value)
    value[path[0]] = replaced(value[path[0]], path[1:], new)
    return value
