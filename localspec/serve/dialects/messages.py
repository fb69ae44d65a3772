"""Requests of Anthropic's messages."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from localspec.serve.dialects.fields import (
    Ignored,
    JsonObject,
    Shared,
    Unsupported,
    continues,
    leading_system_merged,
    picture,
    refuse,
    shared_options,
)
from localspec.serve.dialects.job import Ask
from localspec.serve.dialects.tools import add_tools, function_tool, json_format
from localspec.serve.problem import RequestError, unsupported

_BILLING = re.compile(r"\A\s*x-anthropic-billing-header:(?:[ \t]*[\w.-]+=[^;\n]*(?:;|(?=\n)|\Z))*\s*")


class Block(msgspec.Struct, kw_only=True):
    """Part of a content: ``text``, ``image``, ``tool_use``, ``tool_result``, ``thinking`` or ``redacted_thinking``."""

    type: str
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: JsonObject | None = None
    tool_use_id: str | None = None
    source: Annotated[
        JsonObject | None, Meta(description="Of an image: type base64 with media_type and data, or type url with url.")
    ] = None
    content: Annotated[Any, Meta(description="Of a tool_result: text, or a list of text and image blocks.")] = None
    is_error: bool | None = None


class AnthropicMessage(msgspec.Struct, kw_only=True):
    """A message."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class AnthropicTool(msgspec.Struct, kw_only=True):
    """A function that the model may call. Tools that Anthropic runs are not supported."""

    name: str
    type: str | None = None
    description: str | None = None
    input_schema: JsonObject | None = None


class AnthropicChoice(msgspec.Struct, kw_only=True):
    """Choice among the tools."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(msgspec.Struct, kw_only=True):
    """``enabled`` and ``adaptive`` let the model think first."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Ignored = None


class Metadata(msgspec.Struct, kw_only=True):
    """``user_id`` tells users apart."""

    user_id: str | None = None


class CountRequest(Shared, kw_only=True):
    """Body of ``/v1/messages/count_tokens``."""

    messages: Annotated[list[AnthropicMessage], Meta(min_length=1)]
    system: str | list[Block] | None = None
    tools: list[AnthropicTool] | None = None
    tool_choice: AnthropicChoice | None = None
    thinking: Thinking | None = None


class MessagesRequest(CountRequest, kw_only=True):
    """Body of ``/v1/messages``."""

    max_tokens: Annotated[int, Meta(description="Most tokens of the answer, thoughts included.")]
    stop_sequences: list[str] | None = None
    output_format: Annotated[JsonObject | None, Meta(description='{"type": "json_schema", "schema": {...}}')] = None
    metadata: Metadata | None = None
    container: Unsupported = None
    mcp_servers: Unsupported = None


def count_ask(request: CountRequest) -> Ask:
    """The prompt of a request in the form of the engine. Raises :class:`RequestError`."""
    options = shared_options(request, None, None)
    tools = [_tool(tool, f"tools[{number}]") for number, tool in enumerate(request.tools or ())]
    choice = request.tool_choice or AnthropicChoice(type="auto")
    add_tools(options, tools, _choice(choice), not choice.disable_parallel_tool_use)
    options["thinking"] = request.thinking is not None and request.thinking.type != "disabled"
    messages = _system(request.system)
    for number, message in enumerate(request.messages):
        messages += _messages(message, f"messages[{number}]")
    if continues(messages):
        options["continue_final"] = True
    return Ask((leading_system_merged(messages),), options, request.model)


def messages_ask(request: MessagesRequest, limit: int | None = None) -> Ask:
    """The request in the form of the engine. Raises :class:`RequestError`."""
    refuse(request, "container", "mcp_servers")
    found = count_ask(request)
    options = {**found.options, **shared_options(request, request.max_tokens, limit), "seed": found.options["seed"]}
    options |= {"stop": request.stop_sequences} if request.stop_sequences else {}
    if answer := json_format(request.output_format, "output_format"):
        options["response_format"] = answer
    user = (request.metadata and request.metadata.user_id) or request.user or ""
    return Ask(found.prompts, options, request.model, user=user)


def _tool(tool: AnthropicTool, where: str) -> JsonObject:
    if tool.type not in (None, "custom"):
        raise unsupported(where, "give functions with an input_schema", tool.type)
    return function_tool(tool.name, tool.description, tool.input_schema)


def _choice(choice: AnthropicChoice) -> Any:
    if choice.type == "tool":
        return {"type": "function", "function": {"name": choice.name}}
    return {"auto": None, "any": "required", "none": "none"}[choice.type]


def _system(system: str | list[Block] | None) -> list[JsonObject]:
    texts = [system] if isinstance(system, str) else [_text(block, "system") for block in system or ()]
    texts = [text for text in map(_without_billing, texts) if text]
    return [{"role": "system", "content": "\n".join(texts)}] if texts else []


def _without_billing(text: str) -> str:
    """``text`` without Claude Code's first line, which is for Anthropic's service, not for a model.

    A part of it changes with every request, so that no cache would be of use behind it.
    """
    return _BILLING.sub("", text, count=1)


def _text(block: Block, where: str) -> str:
    if block.type != "text":
        raise unsupported(where, "only text is", block.type)
    if block.text is None:
        raise RequestError(400, f'{where} has a block without "text".', field=where)
    return block.text


def _messages(message: AnthropicMessage, where: str) -> list[JsonObject]:
    """The messages of one of Anthropic's: results of tools are messages of their own, before the user's text."""
    if isinstance(message.content, str):
        text = _without_billing(message.content) if message.role == "system" else message.content
        return [{"role": message.role, "content": text}]
    said, thoughts = list[str | JsonObject](), list[str]()
    calls, results = list[JsonObject](), list[JsonObject]()
    for number, block in enumerate(message.content):
        place = f"{where}.content[{number}]"
        if block.type == "tool_use" and message.role == "assistant":
            calls.append(_call(block, place))
        elif block.type == "tool_result" and message.role == "user":
            results.append(_result(block, place))
        elif block.type in ("thinking", "redacted_thinking"):
            thoughts.append(block.thinking or "")
        else:
            said.append(_said(block, place))
    own: JsonObject = {"role": message.role, "content": _content(said)}
    if calls:
        own["tool_calls"] = calls
    if thought := "".join(thoughts):
        own["reasoning_content"] = thought
    return results + ([own] if said or calls or thought or not results else [])


def _content(said: list[str | JsonObject]) -> str | list[JsonObject]:
    """Texts and pictures as a content in the form of the engine."""
    texts = [one for one in said if isinstance(one, str)]
    if len(texts) == len(said):
        return "\n".join(texts)
    return [{"type": "text", "text": one} if isinstance(one, str) else one for one in said]


def _said(block: Block, where: str) -> str | JsonObject:
    """A text, or a picture in the form of the engine."""
    if block.type != "image":
        return _text(block, where)
    source = block.source or {}
    if source.get("type") == "base64" and isinstance(source.get("data"), str):
        return picture(f"data:{source.get('media_type', 'image/png')};base64,{source['data']}", where)
    return picture(source.get("url"), where)


def _call(block: Block, where: str) -> JsonObject:
    if block.id is None or block.name is None:
        raise RequestError(400, f'{where} is a tool_use without "id" or "name".', field=where)
    return {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": block.input or {}}}


def _result(block: Block, where: str) -> JsonObject:
    if block.tool_use_id is None:
        raise RequestError(400, f'{where} is a tool_result without "tool_use_id".', field=where)
    content = block.content
    if isinstance(content, list):
        try:
            blocks = msgspec.convert(content, list[Block])
        except msgspec.ValidationError as error:
            raise RequestError(400, f"{where}.content: {error}", field=f"{where}.content") from error
        content = _content([_said(part, f"{where}.content[{i}]") for i, part in enumerate(blocks)])
        if not isinstance(content, str):
            return {"role": "tool", "tool_call_id": block.tool_use_id, "content": content}
    text = content if isinstance(content, str) else "" if content is None else json.dumps(content)
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": f"Error: {text}" if block.is_error else text}
