"""Laws of the views: a stream adds up to the answer without one, in each interface."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from localspec.chat.call_parts import CallPart
from localspec.generation.logprobs import TokenLogprobs
from localspec.generation.result import Chunk, Completion
from localspec.generation.stats import Stats
from localspec.serve.dialects.chat import ChatRequest
from localspec.serve.dialects.chat_answer import ChatView
from localspec.serve.dialects.job import Begun, Delta, Done, Event, Sent, View
from localspec.serve.dialects.messages import MessagesRequest, messages_ask
from localspec.serve.dialects.messages_answer import MessagesView
from localspec.serve.dialects.responses import ResponsesRequest
from localspec.serve.dialects.responses_answer import ResponsesView
from localspec.types import Channel

CALLS = tuple(
    {"id": f"call_{n}", "type": "function", "function": {"name": f"f{n}", "arguments": json.dumps({"n": n})}}
    for n in range(2)
)
HELLO = [{"role": "user", "content": "Hello"}]


def chunk(text: str, channel: Channel, token: int) -> Chunk:
    found = TokenLogprobs(token, float("-inf"), ((token, -0.5),))
    return Chunk(text, (token,), ("drafted",), (text,), channel, logprobs=(found,))


def events(text: str, thought: str, calls: Any = (), parts: bool = False) -> Iterator[Event]:
    """Those of an answer; with ``parts`` its calls come while they are written."""
    yield Begun("tiny", 7)
    pieces = [(one, "thought") for one in thought] + [(one, "answer") for one in text]
    chunks = [chunk(piece, channel, n) for n, (piece, channel) in enumerate(pieces)]  # type: ignore[arg-type]
    for one in chunks:
        yield Delta(0, one)
    for n, call in enumerate(calls if parts else ()):
        name, arguments = call["function"].values()
        yield Delta(0, Chunk("", (), (), (), calls=(CallPart(n, name, arguments[:1], call["id"]),)))
        yield Delta(
            0, Chunk("", (), (), (), calls=tuple(CallPart(n, None, sign, call["id"]) for sign in arguments[1:]))
        )
    stats = Stats(prompt_tokens=7, cached_tokens=3, generated_tokens=len(chunks))
    stats.record(("mtp",) * 3, 2)
    logprobs = tuple(found for one in chunks for found in one.logprobs)
    reason = "tool_calls" if calls else "stop"
    done = Completion(
        text, tuple(range(len(chunks))), reason, 5, "exact", stats, thought, None, logprobs, calls  # type: ignore[arg-type]
    )  # fmt: skip
    yield Done(0, done, len(thought))


def chat_view(**more: Any) -> View:
    request = msgspec.convert({"messages": HELLO, "logprobs": True, **more}, ChatRequest)
    return ChatView(request, piece)


def messages_view(**more: Any) -> View:
    request = msgspec.convert({"messages": HELLO, "max_tokens": 9, **more}, MessagesRequest)
    return MessagesView(request, messages_ask(request), piece)


def responses_view(**more: Any) -> View:
    request = msgspec.convert({"input": "Hello", "top_logprobs": 1, **more}, ResponsesRequest)
    return ResponsesView(request, piece)


def piece(token: int) -> bytes:
    return bytes([97 + token])


def streamed(view: View, given: list[Event]) -> list[Sent]:
    found = [sent for event in given for sent in view.feed(event)]  # type: ignore[arg-type]
    found += view.end()
    for sent in found:
        msgspec.json.encode(sent.data)
    return found


def whole(view: View, given: list[Event]) -> dict[str, Any]:
    list(view.feed(given[0]))  # type: ignore[arg-type]
    return view.whole([event for event in given if isinstance(event, Done)])


CASES = [("Hello.", "", ()), ("Hello.", "Hm. So", ()), ("", "Hm.", CALLS), ("I call.", "", CALLS), ("", "", ())]


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize(("text", "thought", "calls"), CASES)
def test_chat_adds_up(text: str, thought: str, calls: Any, parts: bool) -> None:
    """Text, thoughts under both names, calls with an index, and one reason at the end."""
    given = list(events(text, thought, calls, parts))
    message = whole(chat_view(), given)["choices"][0]
    sent = [one.data["choices"][0] for one in streamed(chat_view(), given)[:-1]]
    deltas = [choice["delta"] for choice in sent]
    assert deltas[0] == {"role": "assistant", "content": ""}
    for name in ("content", "reasoning_content", "reasoning"):
        assert "".join(delta.get(name, "") for delta in deltas) == (message["message"].get(name) or "")
    assert message["message"].get("reasoning", "") == thought
    found: list[Any] = []
    for part in (part for delta in deltas for part in delta.get("tool_calls", ())):
        if "id" in part:
            assert part["function"] == {"name": part["function"]["name"], "arguments": ""}
            found.append(json.loads(json.dumps(part)))
        else:  # no name and no id again
            assert part == {"index": part["index"], "function": {"arguments": part["function"]["arguments"]}}
            found[part["index"]]["function"]["arguments"] += part["function"]["arguments"]
    assert found == [{"index": n, **call} for n, call in enumerate(message["message"].get("tool_calls", ()))]
    assert [choice["finish_reason"] for choice in sent if choice["finish_reason"]] == [message["finish_reason"]]
    assert [call for call in found if not isinstance(call["index"], int)] == []


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize(("text", "thought", "calls"), CASES)
def test_messages_add_up(text: str, thought: str, calls: Any, parts: bool) -> None:
    """Blocks open and close in order, each with its own index."""
    given = list(events(text, thought, calls, parts))
    body = whole(messages_view(), given)
    blocks: list[dict[str, Any]] = []
    for sent in streamed(messages_view(), given):
        data = sent.data
        assert sent.name == data["type"]
        if data["type"] == "content_block_start":
            assert data["index"] == len(blocks)
            blocks.append({**data["content_block"], "json": ""})
        elif data["type"] == "content_block_delta":
            assert data["index"] == len(blocks) - 1
            for name, value in data["delta"].items():
                key = {"partial_json": "json"}.get(name, name)
                blocks[-1][key] = blocks[-1][key] + value if name != "type" else blocks[-1]["type"]
        elif data["type"] == "content_block_stop":
            written = blocks[-1].pop("json")
            blocks[-1].update({"input": json.loads(written)} if written else {})
        elif data["type"] == "message_delta":
            assert data["delta"]["stop_reason"] == body["stop_reason"] == ("tool_use" if calls else "end_turn")
            assert data["usage"] == body["usage"]
    assert blocks == body["content"]


def without_ids(item: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key != "id"}


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize(("text", "thought", "calls"), CASES)
def test_responses_add_up(text: str, thought: str, calls: Any, parts: bool) -> None:
    """Numbers without a gap; the items that were done are those of the last event and of a whole answer."""
    given = list(events(text, thought, calls, parts))
    body = whole(responses_view(), given)
    sent = streamed(responses_view(), given)
    assert [one.data["sequence_number"] for one in sent] == list(range(len(sent)))
    assert all(one.name == one.data["type"] for one in sent)
    done = [one.data["item"] for one in sent if one.name == "response.output_item.done"]
    last = sent[-1].data["response"]
    assert sent[-1].name == "response.completed"
    assert last["output"] == done
    shown = [item for item in body["output"] if item["type"] != "message" or item["content"][0]["text"]]
    assert [without_ids(item) for item in done] == [without_ids(item) for item in shown]
    assert last["usage"] == body["usage"]
    assert body["usage"]["output_tokens_details"] == {"reasoning_tokens": len(thought)}


@pytest.mark.parametrize("make", [chat_view, messages_view, responses_view])
def test_sources_are_sent_on_request(make: Callable[..., View]) -> None:
    """Text and source of each token."""
    given = list(events("ab", "c"))
    found = [one.data.get("localspec") for one in streamed(make(sources=True), given) if isinstance(one.data, dict)]
    assert [one for one in found if one] == [{"pieces": [p], "sources": ["drafted"]} for p in "cab"]
    plain = [one.data for one in streamed(make(), given) if isinstance(one.data, dict)]
    assert not any("localspec" in data for data in plain)


def test_responses_have_every_field_of_the_original() -> None:
    """With the values that count; a tool says what it does not have."""
    tool = {"type": "function", "name": "f"}
    (*_, last) = streamed(responses_view(tools=[tool], temperature=0.5), list(events("Hi", "")))
    body = last.data["response"]
    assert (body["temperature"], body["top_p"], body["presence_penalty"], body["frequency_penalty"]) == (
        0.5,
        0.95,
        0,
        0,
    )
    assert body["tools"] == [{**tool, "description": None, "parameters": None, "strict": None}]
    assert body["completed_at"] >= body["created_at"]
    for name in ("max_tool_calls", "safety_identifier", "prompt_cache_key"):
        assert body[name] is None
    assert body["service_tier"] == "default"
