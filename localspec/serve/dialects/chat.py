"""Requests of OpenAI's chat completions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from localspec.serve.dialects.fields import (
    Ignored,
    JsonObject,
    Part,
    Shared,
    ToolCall,
    Unsupported,
    content_of,
    continues,
    leading_system_merged,
    refuse,
    shared_options,
    text_of,
)
from localspec.serve.dialects.job import Ask
from localspec.serve.dialects.tools import add_tools, json_format, thinks
from localspec.serve.problem import RequestError, unsupported


class ChatMessage(msgspec.Struct, kw_only=True):
    """A message; ``reasoning_content`` or ``reasoning`` are an earlier answer's thoughts."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    name: Ignored = None
    function_call: Unsupported = None


class StreamOptions(msgspec.Struct, kw_only=True):
    """``include_usage`` adds a last chunk with the usage."""

    include_usage: bool | None = None


class ChatRequest(Shared, kw_only=True):
    """Body of ``/v1/chat/completions``."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    n: Annotated[int, Meta(ge=1, le=16, description="Answers to give.")] | None = None
    max_tokens: Annotated[int | None, Meta(description="Most tokens of the answer, thoughts included.")] = None
    max_completion_tokens: Annotated[int | None, Meta(description="The newer name of max_tokens.")] = None
    stop: str | list[str] | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: JsonObject | None = None
    tools: list[JsonObject] | None = None
    tool_choice: Annotated[
        str | JsonObject | None, Meta(description="auto, none, required, a function by its name, or allowed_tools.")
    ] = None
    parallel_tool_calls: Annotated[bool | None, Meta(description="false ends an answer with its first call.")] = None
    reasoning_effort: Annotated[str | None, Meta(description="none does not think; anything else thinks.")] = None
    chat_template_kwargs: Annotated[JsonObject | None, Meta(description="enable_thinking: true thinks.")] = None
    continue_final_message: Annotated[
        bool | None, Meta(description="Continue the last message. Default: if it is the assistant's.")
    ] = None
    add_generation_prompt: Annotated[bool | None, Meta(description="true does not go with continue_final_message.")] = (
        None
    )
    functions: Unsupported = None
    function_call: Unsupported = None
    audio: Unsupported = None
    web_search_options: Unsupported = None
    modalities: list[str] | None = None


def chat_ask(request: ChatRequest, limit: int | None = None) -> Ask:
    """The request in the form of the engine. Raises :class:`RequestError`."""
    refuse(request, "functions", "function_call", "audio", "web_search_options")
    if set(request.modalities or ()) - {"text"}:
        raise unsupported("modalities", 'only ["text"] is')
    options = shared_options(request, request.max_completion_tokens or request.max_tokens, limit)
    options |= {"stop": request.stop} if request.stop else {}
    if request.logprobs or request.top_logprobs:
        options["logprobs"] = request.top_logprobs or 0
    if answer := json_format(request.response_format, "response_format"):
        options["response_format"] = answer
    add_tools(options, request.tools, request.tool_choice, request.parallel_tool_calls)
    thinking = (request.chat_template_kwargs or {}).get("enable_thinking")
    options["thinking"] = thinks(request.reasoning_effort) if thinking is None else bool(thinking)
    messages = chat_messages(request.messages)
    asked = request.continue_final_message
    if asked and request.add_generation_prompt:
        message = "add_generation_prompt and continue_final_message are both true; a message is continued or begun."
        raise RequestError(400, message, field="add_generation_prompt")
    if continues(messages) if asked is None else asked:
        options["continue_final"] = True
    return Ask((messages,), options, request.model, request.n or 1, request.user or "")


def chat_messages(messages: list[ChatMessage]) -> list[JsonObject]:
    """``messages`` in the form of the engine. Raises :class:`RequestError` for what is no text."""
    return leading_system_merged([_message(message, f"messages[{i}]") for i, message in enumerate(messages)])


def _message(message: ChatMessage, where: str) -> JsonObject:
    if message.role == "function" or message.function_call:
        raise unsupported(where, "use the role tool", "function")
    role = "system" if message.role == "developer" else message.role
    content = content_of if role in ("user", "tool") else text_of
    found: JsonObject = {"role": role, "content": content(message.content, f"{where}.content")}
    if message.tool_calls:
        found["tool_calls"] = [_call(call, where) for call in message.tool_calls]
    if message.tool_call_id is not None:
        found["tool_call_id"] = message.tool_call_id
    thought = message.reasoning_content or message.reasoning
    if thought and role == "assistant":
        found["reasoning_content"] = thought
    return found


def _call(call: ToolCall, where: str) -> JsonObject:
    if call.type != "function":
        raise unsupported(f"{where}.tool_calls", "it must be function", call.type)
    function: dict[str, Any] = msgspec.to_builtins(call.function)
    return {"id": call.id, "type": "function", "function": function}
