"""Tools, tool choices, thinking and formats of every interface, in the form of the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from localspec.serve.dialects.fields import JsonObject
from localspec.serve.problem import RequestError, unsupported


def add_tools(
    options: dict[str, Any], tools: Sequence[JsonObject] | None, choice: Any, several: bool | None = None
) -> None:
    """Add ``tools``, already in OpenAI's form, and the choice among them to ``options``.

    ``several``: an answer may have more than one call; None is the default, True.
    """
    if not tools:
        if choice not in (None, "auto", "none"):
            raise RequestError(400, "tool_choice asks for a call, and tools is empty.", field="tool_choice")
        return
    options["tools"] = list(tools)
    if choice is not None:
        options["tool_choice"] = choice
    if several is False:
        options["parallel_tool_calls"] = False


def function_tool(name: Any, description: Any, parameters: Any) -> JsonObject:
    """A tool in OpenAI's form, of the fields that are given."""
    found = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": {key: value for key, value in found.items() if value is not None}}


def thinks(effort: str | None) -> bool:
    """True if a reasoning effort asks for thoughts."""
    return effort not in (None, "none", "minimal")


def json_format(given: JsonObject | None, field: str) -> JsonObject | None:
    """The engine's ``response_format`` of a format in either of OpenAI's forms; None for text."""
    if given is None or given.get("type") == "text":
        return None
    kind = given.get("type")
    if kind not in ("json_object", "json_schema"):
        raise unsupported(f"{field}.type", "it must be text, json_object or json_schema", kind)
    return given
