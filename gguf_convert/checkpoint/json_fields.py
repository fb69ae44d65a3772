"""Typed access to the JSON objects of a checkpoint.

A wrong value raises a ConvertError that names file, key and value.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localspec.errors import ConvertError

#: Largest JSON file in bytes. The largest real tokenizer.json has about 35 MB.
_MAX_JSON_BYTES = 512 << 20
#: Largest number, because GGUF stores numbers as float32. A comparison with NaN is false too.
_FLOAT32_MAX = 3.4e38
#: Most characters of a value in an error message.
_SHOWN = 60


class Fields:
    """A JSON object, and a description of its place for error messages.

    A value of ``None`` counts as absent, as in transformers. The readers raise ConvertError for a wrong type or range.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values = values
        self.where = where

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def fail(self, key: str, expected: str) -> ConvertError:
        """Return the error for ``key``: its value is missing or not ``expected``."""
        if key not in self:
            return ConvertError(f'{self.where} has no "{key}" ({expected}): is the checkpoint complete?')
        return ConvertError(f'{self.where}: "{key}" must be {expected}, not {shorten(self.values[key])}.')

    def integer(self, key: str, default: int | None = None, *, low: int = 1, high: int = 2**31 - 1) -> int:
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.fail(key, f"an integer from {low} to {high}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= _FLOAT32_MAX:
            raise self.fail(key, "a finite number")
        return float(value)

    def boolean(self, key: str, default: bool) -> bool:
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.fail(key, "true or false")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            raise self.fail(key, "a string")
        return value

    def texts(self, key: str) -> list[str]:
        value = self.values.get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.fail(key, "a list of strings")
        return value

    def object(self, key: str, *, required: bool = True) -> Fields:
        value = self.values.get(key)
        if value is None and not required:
            value = {}
        if not isinstance(value, dict):
            raise self.fail(key, "an object")
        return Fields(value, f'{self.where}, "{key}"')


def read_json_object(path: Path) -> Fields:
    """Read a JSON object from a file.

    Raises ConvertError if the file is missing, too large, not UTF-8, not JSON, or not an object.
    """
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise ConvertError(
                f"{path} is larger than {_MAX_JSON_BYTES >> 20} MB: this is no {path.name} of a checkpoint."
            )
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConvertError(f"Cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConvertError(f"{path} is not UTF-8 text: download the checkpoint again.") from error
    return Fields(parse_json_object(text, str(path)), path.name)


def parse_json_object(text: str, where: str) -> dict[str, Any]:
    """Parse a JSON object; ConvertError also for duplicate keys and nesting too deep for Python."""
    try:
        value = json.loads(text, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ConvertError(f"{where} is not valid JSON ({reason}): download the checkpoint again.") from error
    if not isinstance(value, dict):
        raise ConvertError(f"{where} does not hold a JSON object: download the checkpoint again.")
    return value


def shorten(value: object) -> str:
    """Return the ``repr`` of a value for an error message, shortened to 60 characters."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"key {shorten(key)} appears twice")
            seen.add(key)
    return result
