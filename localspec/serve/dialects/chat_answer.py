"""Answers of OpenAI's chat completions."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator, Sequence

from localspec.chat.call_parts import CallPart
from localspec.generation.result import Completion
from localspec.serve.dialects.answer import (
    FINGERPRINT,
    EndsWithDone,
    SentCalls,
    calls_of,
    chat_logprobs,
    extras,
    finish_reason,
    new_id,
    now,
    sources,
    usage,
)
from localspec.serve.dialects.chat import ChatRequest
from localspec.serve.dialects.fields import JsonObject
from localspec.serve.dialects.job import Begun, Bytes, Delta, Done, Sent


class ChatView(EndsWithDone):
    """The answer to one request. The reasoning is sent under both usual names."""

    def __init__(self, request: ChatRequest, piece: Bytes) -> None:
        self._request, self._piece = request, piece
        self._head = {"id": new_id("chatcmpl-"), "created": now(), "model": request.model or ""}
        self._done: list[Done] = []
        self._begun: set[int] = set()
        self._calls: dict[int, SentCalls] = {}

    @property
    def _with_usage(self) -> bool:
        options = self._request.stream_options
        return bool(options and options.include_usage)

    def feed(self, event: Begun | Delta | Done) -> Iterator[Sent]:
        if isinstance(event, Begun):
            self._head["model"] = event.model
        elif isinstance(event, Delta):
            yield from self._delta(event)
        else:
            yield from self._finish(event)

    def _delta(self, event: Delta) -> Iterator[Sent]:
        chunk, delta = event.chunk, dict[str, str]()
        if chunk.text and chunk.channel == "answer":
            delta["content"] = chunk.text
        elif chunk.text:
            delta["reasoning_content"] = delta["reasoning"] = chunk.text
        more: JsonObject = {}
        if chunk.logprobs:
            more["logprobs"] = chat_logprobs(chunk.logprobs, self._piece)
        if delta or more or (self._request.sources and chunk.pieces):
            yield from self._opening(event.index)
            extra = {"localspec": sources(event)} if self._request.sources else {}
            yield self._chunk(event.index, delta, None, more, extra)
        yield from self._call_parts(event.index, self._sent_calls(event.index).add(chunk.calls))

    def _sent_calls(self, index: int) -> SentCalls:
        return self._calls.setdefault(index, SentCalls())

    def _call_parts(self, index: int, parts: Iterable[CallPart]) -> Iterator[Sent]:
        """The name of a call, then its arguments: clients add up what has the same index."""
        for part in parts:
            yield from self._opening(index)
            function = {"arguments": part.arguments} if part.name is None else {"name": part.name, "arguments": ""}
            head = {} if part.name is None else {"id": part.id, "type": "function"}
            yield self._chunk(index, {"tool_calls": [{"index": part.number, **head, "function": function}]})

    def _opening(self, index: int) -> Iterator[Sent]:
        if index not in self._begun:
            self._begun.add(index)
            yield self._chunk(index, {"role": "assistant", "content": ""})

    def _finish(self, event: Done) -> Iterator[Sent]:
        insort(self._done, event, key=lambda one: one.index)
        yield from self._opening(event.index)
        rest = self._sent_calls(event.index).rest(event.completion)
        yield from self._call_parts(event.index, rest)
        yield self._chunk(event.index, {}, finish_reason(event.completion), more_fields=extras([event]))

    def _chunk(
        self,
        index: int,
        delta: JsonObject,
        reason: str | None = None,
        more_in_choice: JsonObject | None = None,
        more_fields: JsonObject | None = None,
    ) -> Sent:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason, **(more_in_choice or {})}
        rest = {**({"usage": None} if self._with_usage else {}), **(more_fields or {})}
        return Sent({**self._named("chat.completion.chunk"), "choices": [choice], **rest})

    def _named(self, kind: str) -> JsonObject:
        return {**self._head, "object": kind, "system_fingerprint": FINGERPRINT}

    def end(self) -> Iterator[Sent]:
        if self._with_usage:
            rest = {"usage": usage(self._done), **extras(self._done)}
            yield Sent({**self._named("chat.completion.chunk"), "choices": [], **rest})
        yield Sent("[DONE]")

    def whole(self, done: Sequence[Done]) -> JsonObject:
        choices = [self._choice(index, one.completion) for index, one in enumerate(done)]
        return {**self._named("chat.completion"), "choices": choices, "usage": usage(done), **extras(done)}

    def _choice(self, index: int, done: Completion) -> JsonObject:
        calls = calls_of(done)
        message: JsonObject = {"role": "assistant", "content": done.text or (None if calls else ""), "refusal": None}
        if done.thought:
            message["reasoning_content"] = message["reasoning"] = done.thought
        if calls:
            message["tool_calls"] = calls
        found = None if done.logprobs is None else chat_logprobs(done.logprobs, self._piece)
        return {"index": index, "message": message, "logprobs": found, "finish_reason": finish_reason(done)}
