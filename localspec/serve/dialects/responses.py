"""Requests of OpenAI's responses."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from localspec.params import SamplingParams
from localspec.serve.dialects.fields import (
    Ignored,
    JsonObject,
    Part,
    Shared,
    Unsupported,
    content_of,
    leading_system_merged,
    refuse,
    shared_options,
    text_of,
)
from localspec.serve.dialects.job import Ask
from localspec.serve.dialects.tools import add_tools, function_tool, json_format, thinks
from localspec.serve.problem import RequestError, unsupported

_DEFAULTS = SamplingParams()
_ECHOED_NUMBERS = ("temperature", "top_p", "presence_penalty", "frequency_penalty")


class Item(msgspec.Struct, kw_only=True):
    """A message, or an item of ``type`` ``function_call``, ``function_call_output`` or ``reasoning``."""

    type: str = "message"
    role: str | None = None
    content: str | list[Part] | None = None
    summary: list[Part] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[Part] | None = None


class Reasoning(msgspec.Struct, kw_only=True):
    """``effort``: ``none`` does not think; anything else thinks."""

    effort: str | None = None
    summary: Ignored = None


class TextFormat(msgspec.Struct, kw_only=True):
    """``format``: ``text``, ``json_object`` or ``json_schema``."""

    format: JsonObject | None = None
    verbosity: Ignored = None


class ResponsesRequest(Shared, kw_only=True):
    """Body of ``/v1/responses``."""

    input: Annotated[str, Meta(min_length=1)] | Annotated[list[Item], Meta(min_length=1)]
    instructions: str | None = None
    previous_response_id: Annotated[str | None, Meta(description="Continue that response, if it is stored.")] = None
    store: Annotated[bool | None, Meta(description="false does not keep the response. Default true.")] = None
    max_output_tokens: int | None = None
    stop: str | list[str] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: Annotated[list[JsonObject] | None, Meta(description="Functions; other kinds are not offered.")] = None
    tool_choice: str | JsonObject | None = None
    parallel_tool_calls: Annotated[bool | None, Meta(description="false ends an answer with its first call.")] = None
    reasoning: Reasoning | None = None
    text: TextFormat | None = None
    metadata: JsonObject | None = None
    include: list[str] | None = None
    truncation: str | None = None
    background: Unsupported = None
    conversation: Unsupported = None
    prompt: Unsupported = None


def responses_ask(request: ResponsesRequest, before: list[JsonObject], limit: int | None = None) -> Ask:
    """The request in the form of the engine. ``before``: messages of the responses that it continues.

    Raises :class:`RequestError`.
    """
    refuse(request, "background", "conversation", "prompt")
    options = shared_options(request, request.max_output_tokens, limit)
    options |= {"stop": request.stop} if request.stop else {}
    if request.top_logprobs or "message.output_text.logprobs" in (request.include or ()):
        options["logprobs"] = request.top_logprobs or 0
    if request.text and (answer := json_format(request.text.format, "text.format")):
        options["response_format"] = answer
    # Codex offers tools of other kinds, and works without them.
    tools = [_tool(tool, f"tools[{i}]") for i, tool in enumerate(request.tools or ()) if tool.get("type") == "function"]
    add_tools(options, tools, _choice(request.tool_choice), request.parallel_tool_calls)
    options["thinking"] = request.reasoning is not None and thinks(request.reasoning.effort)
    messages = [*before, *input_messages(request.input)]
    if request.instructions:
        messages = [{"role": "system", "content": request.instructions}, *messages]
    prompt = leading_system_merged(messages)
    return Ask((prompt,), options, request.model, user=request.user or "")


def _tool(tool: JsonObject, where: str) -> JsonObject:
    if not isinstance(tool.get("name"), str):
        raise RequestError(400, f'{where} has no "name"; give the fields of a function beside its type.', field=where)
    return function_tool(tool["name"], tool.get("description"), tool.get("parameters"))


def _choice(choice: str | JsonObject | None) -> Any:
    """A choice in the form of chat completions."""
    if not isinstance(choice, dict):
        return choice
    if choice.get("type") == "function":
        return {"type": "function", "function": {"name": choice.get("name")}}
    if choice.get("type") == "allowed_tools" and isinstance(choice.get("tools"), list):
        tools = [_choice(tool) for tool in choice["tools"]]
        return {"type": "allowed_tools", "allowed_tools": {"mode": choice.get("mode"), "tools": tools}}
    return choice


def input_messages(given: str | list[Item]) -> list[JsonObject]:
    """An input as messages. Calls and thoughts become part of the assistant's message that they belong to."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    found: list[JsonObject] = []
    thought = ""
    for number, item in enumerate(given):
        where = f"input[{number}]"
        if item.type == "reasoning":
            content = item.content if item.content is not None else item.summary
            thought += text_of(content, f"{where}.content")
            continue
        if item.type == "function_call_output":
            found.append(_output(item, where))
        elif item.type == "function_call":
            own = _assistant(found, thought)
            own["tool_calls"] = [*own.get("tool_calls", ()), _call(item, where)]
        elif item.type == "message":
            _add_message(found, item, where, thought)
        else:
            raise unsupported(where, "give messages and function calls", item.type)
        thought = ""
    return found


def _add_message(found: list[JsonObject], item: Item, where: str, thought: str) -> None:
    role = "system" if item.role == "developer" else item.role
    if role == "assistant":
        text = text_of(item.content, f"{where}.content")
        found.append({"role": role, "content": text, **({"reasoning_content": thought} if thought else {})})
    elif role in ("user", "system"):
        content = content_of if role == "user" else text_of
        found.append({"role": role, "content": content(item.content, f"{where}.content")})
    else:
        raise RequestError(
            400, f"{where} has the role {role!r:.40}; it must be system, developer, user or assistant.", field=where
        )


def _assistant(found: list[JsonObject], thought: str) -> JsonObject:
    """The assistant's message at the end of ``found``, or a new one."""
    if not found or found[-1]["role"] != "assistant":
        found.append({"role": "assistant", "content": ""})
    if thought:
        found[-1]["reasoning_content"] = found[-1].get("reasoning_content", "") + thought
    return found[-1]


def _call(item: Item, where: str) -> JsonObject:
    if item.call_id is None or item.name is None:
        raise RequestError(400, f'{where} is a function_call without "call_id" or "name".', field=where)
    function = {"name": item.name, "arguments": item.arguments or "{}"}
    return {"id": item.call_id, "type": "function", "function": function}


def _output(item: Item, where: str) -> JsonObject:
    if item.call_id is None:
        raise RequestError(400, f'{where} is a function_call_output without "call_id".', field=where)
    return {"role": "tool", "tool_call_id": item.call_id, "content": content_of(item.output, f"{where}.output")}


def echoed(request: ResponsesRequest) -> JsonObject:
    """Fields of the request that every response repeats, with the defaults of those that it leaves out."""
    effort = request.reasoning.effort if request.reasoning else None
    numbers = {name: getattr(request, name) for name in _ECHOED_NUMBERS}
    unknown = {"description": None, "parameters": None, "strict": None}  # of a function, where it does not say
    return {
        **{name: getattr(_DEFAULTS, name) if value is None else value for name, value in numbers.items()},
        **dict.fromkeys(("max_tool_calls", "safety_identifier", "prompt_cache_key")),
        "service_tier": "default",
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "metadata": request.metadata or {},
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": request.previous_response_id,
        "reasoning": {"effort": effort, "summary": None},
        "store": request.store is not False,
        "text": {"format": (request.text and request.text.format) or {"type": "text"}},
        "tool_choice": request.tool_choice or "auto",
        "tools": [{**unknown, **tool} if tool.get("type") == "function" else tool for tool in request.tools or ()],
        "top_logprobs": request.top_logprobs or 0,
        "truncation": "disabled",
        "user": request.user,
        "background": False,
    }
