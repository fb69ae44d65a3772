"""Laws of requests: what clients send becomes the engine's messages and options."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from localspec.serve.dialects.chat import ChatRequest, chat_ask
from localspec.serve.dialects.job import Ask
from localspec.serve.dialects.messages import MessagesRequest, messages_ask
from localspec.serve.dialects.responses import ResponsesRequest, responses_ask
from localspec.serve.problem import RequestError

USER = {"role": "user", "content": "Hi"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
FUNCTION = {"name": "f", "description": "d", "parameters": {"type": "object"}}


def chat(messages: Any, **more: Any) -> Ask:
    return chat_ask(msgspec.convert({"messages": messages, **more}, ChatRequest))


def anthropic(messages: Any, **more: Any) -> Ask:
    return messages_ask(msgspec.convert({"messages": messages, "max_tokens": 9, **more}, MessagesRequest))


def responses(given: Any, **more: Any) -> Ask:
    return responses_ask(msgspec.convert({"input": given, **more}, ResponsesRequest), [])


def test_system_messages_at_the_beginning_become_one() -> None:
    """Also those of developers; later ones stay in their place."""
    first = [{"role": "system", "content": "A"}, {"role": "developer", "content": "B"}]
    late = {"role": "developer", "content": "C"}
    assert chat([*first, USER, late]).prompts[0] == [
        {"role": "system", "content": "A\n\nB"}, USER, {"role": "system", "content": "C"}
    ]  # fmt: skip


def test_contents_of_every_shape_are_text() -> None:
    """Null, parts, a refusal; thoughts under either name are kept for the template."""
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages = [
        {"role": "user", "content": parts},
        {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning": "hm"},
        {"role": "tool", "tool_call_id": "c1", "content": parts},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "tool_calls": [], "audio": None},
    ]
    assert chat(messages).prompts[0] == [
        {"role": "user", "content": "a\nb"},
        {"role": "assistant", "content": "", "tool_calls": [CALL], "reasoning_content": "hm"},
        {"role": "tool", "content": "a\nb", "tool_call_id": "c1"},
        {"role": "assistant", "content": "no"},
    ]


def test_options_reach_the_engine() -> None:
    """Under its names; the server's limit of tokens counts as well."""
    request = {
        "max_completion_tokens": 50,
        "max_tokens": 7,
        "stop": "x",
        "seed": 3,
        "top_k": 5,
        "logit_bias": {"1": -2},
    }
    options = chat([USER], **request, top_logprobs=2, reasoning_effort="low", draft_max=4).options
    assert options == {
        **{"max_tokens": 50, "stop": "x", "seed": 3, "top_k": 5, "logit_bias": {1: -2.0}},
        **{"logprobs": 2, "thinking": True, "draft_max": 4},
    }
    limited = chat_ask(msgspec.convert({"messages": [USER], "max_tokens": -1}, ChatRequest), 20)
    assert limited.options["max_tokens"] == 20
    assert chat([USER], speculative=False).options["draft_max"] == 0
    shape = {"type": "integer"}
    assert chat([USER], json_schema=shape).options["response_format"] == {"type": "json_object", "schema": shape}
    assert "max_tokens" not in chat([USER]).options


def test_a_last_message_of_the_assistant_is_continued() -> None:
    """As in llama.cpp's server and Anthropic's interface; a field of vLLM asks for it, or forbids it."""
    begun = [USER, {"role": "assistant", "content": "Once"}]
    assert chat(begun).options["continue_final"] is anthropic(begun).options["continue_final"] is True
    assert "continue_final" not in chat(begun, continue_final_message=False).options
    assert chat([USER], continue_final_message=True).options["continue_final"] is True
    for ask in (chat([USER]), anthropic([USER]), chat([USER, {**begun[1], "tool_calls": [CALL]}])):
        assert "continue_final" not in ask.options


@pytest.mark.parametrize(
    ("more", "thinks"),
    [
        ({}, False),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "high"}, True),
        ({"chat_template_kwargs": {"enable_thinking": True}}, True),
        ({"reasoning_effort": "high", "chat_template_kwargs": {"enable_thinking": False}}, False),
    ],
)
def test_thinking_is_asked_for(more: Any, thinks: bool) -> None:
    """By OpenAI's field or the template's own."""
    assert chat([USER], **more).options["thinking"] is thinks


def test_tools_of_every_interface_are_the_same() -> None:
    """Flat in responses, with an input_schema in Anthropic's."""
    tool = {"type": "function", "function": FUNCTION}
    own = {"name": "f", "description": "d", "input_schema": FUNCTION["parameters"]}
    assert chat([USER], tools=[tool]).options["tools"] == [tool]
    assert responses("Hi", tools=[{"type": "function", **FUNCTION}]).options["tools"] == [tool]
    assert anthropic([USER], tools=[own]).options["tools"] == [tool]
    assert "tools" not in responses("Hi", tools=[{"type": "web_search"}], tool_choice="auto").options
    with pytest.raises(RequestError, match=r"tools\[0\]"):
        anthropic([USER], tools=[{"type": "web_search_20250305", "name": "web_search"}])


@pytest.mark.parametrize(
    ("given", "choice"),
    [
        ({"type": "auto"}, None),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
    ],
)
def test_anthropics_choices_are_openais(given: Any, choice: Any) -> None:
    """The engine checks them."""
    tools = [{"name": "f", "input_schema": {}}]
    assert anthropic([USER], tools=tools, tool_choice=given).options.get("tool_choice") == choice


def test_blocks_become_messages() -> None:
    """Results of tools come before the user's text, thoughts stay with their calls."""
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "I call."},
        {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
    ]
    results = [
        {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "1"}], "is_error": True},
        {"type": "text", "text": "Go on"},
    ]
    messages = [USER, {"role": "assistant", "content": blocks}, {"role": "user", "content": results}]
    system = [{"type": "text", "text": "A", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "B"}]
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    assert anthropic(messages, system=system).prompts[0] == [
        {"role": "system", "content": "A\nB"},
        USER,
        {"role": "assistant", "content": "I call.", "tool_calls": [call], "reasoning_content": "hm"},
        {"role": "tool", "tool_call_id": "c1", "content": "Error: 1"},
        {"role": "user", "content": "Go on"},
    ]


@pytest.mark.parametrize("header", ["cch=a5145;", "cc_version=2.1.101.e51; cc_entrypoint=cli; cch=%s;", "a=b"])
@pytest.mark.parametrize("joint", ["", "\n", " \n\n"])
def test_claude_codes_line_for_the_service_is_left_out(header: str, joint: str) -> None:
    """It changes with every request; everything behind it stays, and so does such a line anywhere else."""
    line, text = f"x-anthropic-billing-header: {header}", f"You are Claude Code.\nx-anthropic-billing-header: {header}"
    prompts = [
        anthropic([USER], system=line.replace("%s", stamp) + (joint or ("" if line.endswith(";") else "\n")) + text)
        for stamp in ("a5145", "00000")
    ]
    blocks = [{"type": "text", "text": line}, {"type": "text", "text": text}]
    late = {"role": "system", "content": line + "\nC"}
    for ask in (*prompts, anthropic([USER], system=blocks)):
        assert ask.prompts[0] == [{"role": "system", "content": text}, USER]
    assert anthropic([USER, late]).prompts[0] == [USER, {"role": "system", "content": "C"}]
    assert anthropic([USER], system=line).prompts[0] == [USER]
    assert chat([{"role": "user", "content": line}]).prompts[0] == [{"role": "user", "content": line}]


def test_items_become_messages() -> None:
    """Thoughts and calls join the assistant's message; each result is one."""
    items = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "1"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "2"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Done."}]},
    ]
    calls = [{**CALL, "id": "c1"}, {**CALL, "id": "c2"}]
    assert responses(items, instructions="First.").prompts[0] == [
        {"role": "system", "content": "First.\n\nBe brief."},
        USER,
        {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {"role": "tool", "tool_call_id": "c2", "content": "2"},
        {"role": "assistant", "content": "Done."},
    ]


@pytest.mark.parametrize(
    ("ask", "field"),
    [
        (lambda: chat([{"role": "function", "content": "x"}]), "messages[0]"),
        (lambda: chat([{"role": "user", "content": [{"type": "input_audio"}]}]), "messages[0].content[0]"),
        (lambda: chat([USER], modalities=["text", "audio"]), "modalities"),
        (lambda: chat([USER], tool_choice="required"), "tool_choice"),
        (lambda: anthropic([{"role": "user", "content": [{"type": "image"}]}]), "messages[0].content[0]"),
        (lambda: anthropic([USER], mcp_servers=[{}]), "mcp_servers"),
        (lambda: responses([{"role": "user", "content": [{"type": "input_image"}]}]), "input[0].content[0]"),
        (lambda: responses([{"type": "function_call", "name": "f"}]), "input[0]"),
        (lambda: responses("Hi", conversation="c"), "conversation"),
        (lambda: responses("Hi", text={"format": {"type": "grammar"}}), "text.format.type"),
    ],
)
def test_the_unsupported_is_named(ask: Any, field: str) -> None:
    """By the field, not a guess of what was meant."""
    with pytest.raises(RequestError) as error:
        ask()
    assert (error.value.status, error.value.field) == (400, field)
