"""Answers of Anthropic's messages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from localspec.chat.call_parts import CallPart
from localspec.generation.result import Completion
from localspec.serve.dialects.answer import SentCalls, calls_of, extras, new_id, sources, stop_met
from localspec.serve.dialects.fields import JsonObject
from localspec.serve.dialects.job import Ask, Begun, Bytes, Delta, Done, Sent
from localspec.serve.dialects.messages import MessagesRequest

#: Type of a block, and the type and field of its deltas, by channel.
_BLOCKS = {"answer": ("text", "text_delta", "text"), "thought": ("thinking", "thinking_delta", "thinking")}


class MessagesView:
    """The answer to one request."""

    def __init__(self, request: MessagesRequest, ask: Ask, piece: Bytes) -> None:
        self._request, self._ask, self._piece = request, ask, piece
        self._head = {"id": new_id("msg_"), "type": "message", "role": "assistant", "model": request.model or ""}
        self._open: str | None = None
        self._blocks = 0
        self._calls = SentCalls()

    def feed(self, event: Begun | Delta | Done) -> Iterator[Sent]:
        if isinstance(event, Begun):
            self._head["model"] = event.model
            empty: JsonObject = {"content": [], "stop_reason": None, "stop_sequence": None}
            yield _sent("message_start", message={**self._head, **empty, "usage": _usage(event.prompt_tokens, 0, 0)})
        elif isinstance(event, Delta):
            yield from self._delta(event)
        else:
            yield from self._finish(event)

    def _delta(self, event: Delta) -> Iterator[Sent]:
        if event.chunk.text:
            yield from self._text(event)
        yield from self._call_parts(self._calls.add(event.chunk.calls))

    def _text(self, event: Delta) -> Iterator[Sent]:
        chunk = event.chunk
        kind, delta, field = _BLOCKS[chunk.channel]
        if self._open != kind:
            yield from self._close()
            yield self._start({"type": kind, field: "", **({"signature": ""} if kind == "thinking" else {})})
            self._open = kind
        extra = {"localspec": sources(event)} if self._request.sources else {}
        yield _sent("content_block_delta", index=self._blocks, delta={"type": delta, field: chunk.text}, **extra)

    def _start(self, block: JsonObject) -> Sent:
        return _sent("content_block_start", index=self._blocks, content_block=block)

    def _close(self) -> Iterator[Sent]:
        if self._open is not None:
            yield _sent("content_block_stop", index=self._blocks)
            self._open = None
            self._blocks += 1

    def _call_parts(self, parts: Iterable[CallPart]) -> Iterator[Sent]:
        for part in parts:
            if part.name is not None:
                yield from self._close()
                yield self._start({"type": "tool_use", "id": part.id, "name": part.name, "input": {}})
                self._open = "tool_use"
            else:
                delta = {"type": "input_json_delta", "partial_json": part.arguments}
                yield _sent("content_block_delta", index=self._blocks, delta=delta)

    def _finish(self, event: Done) -> Iterator[Sent]:
        yield from self._call_parts(self._calls.rest(event.completion))
        yield from self._close()
        yield _sent("message_delta", delta=self._stopped(event.completion), usage=_usage_of(event), **extras([event]))
        yield _sent("message_stop")

    def _stopped(self, done: Completion) -> JsonObject:
        stop = stop_met(done, self._ask.options.get("stop") or (), self._piece)
        reasons = {"length": "max_tokens", "tool_calls": "tool_use", "stop": "stop_sequence" if stop else "end_turn"}
        return {"stop_reason": reasons.get(done.finish_reason, "end_turn"), "stop_sequence": stop}

    def end(self) -> Iterator[Sent]:
        return iter(())

    def ping(self) -> Sent:
        return _sent("ping")

    def fail(self, body: JsonObject) -> Iterator[Sent]:
        yield Sent(body, "error")

    def whole(self, done: Sequence[Done]) -> JsonObject:
        (event,) = done
        one = event.completion
        content: list[JsonObject] = []
        if one.thought:
            content.append({"type": "thinking", "thinking": one.thought, "signature": ""})
        if one.text:
            content.append({"type": "text", "text": one.text})
        content += _call_blocks(one)
        return {**self._head, "content": content, **self._stopped(one), "usage": _usage_of(event), **extras(done)}


def _sent(kind: str, **fields: Any) -> Sent:
    return Sent({"type": kind, **fields}, kind)


def _usage(fresh: int, cached: int, answered: int) -> JsonObject:
    return {
        "input_tokens": fresh,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": answered,
    }


def _usage_of(event: Done) -> JsonObject:
    stats = event.completion.stats
    return _usage(stats.prefilled_tokens, stats.cached_tokens, len(event.completion.tokens))


def _call_blocks(done: Completion) -> list[JsonObject]:
    return [
        {
            "type": "tool_use",
            "id": call["id"],
            "name": call["function"]["name"],
            "input": json.loads(call["function"]["arguments"] or "{}"),
        }
        for call in calls_of(done)
    ]
