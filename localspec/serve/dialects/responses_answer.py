"""Answers of OpenAI's responses: a list of items, or the events in which they grow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from localspec.chat.call_parts import CallPart
from localspec.generation.logprobs import TokenLogprobs
from localspec.generation.result import Completion
from localspec.serve.dialects.answer import SentCalls, chat_logprobs, extras, new_id, now, sources, sums
from localspec.serve.dialects.fields import JsonObject
from localspec.serve.dialects.job import Begun, Bytes, Delta, Done, Sent
from localspec.serve.dialects.responses import ResponsesRequest, echoed

#: Channel → prefix of the ids, type of the item, type of its part, start of the names of its events.
_ITEMS = {
    "answer": ("msg_", "message", "output_text", "response.output_text"),
    "thought": ("rs_", "reasoning", "reasoning_text", "response.reasoning_text"),
}

_ARGUMENTS = "response.function_call_arguments"
#: Takes a response that is complete, and the message of its answer.
Keep = Callable[[JsonObject, JsonObject], None]


class ResponsesView:
    """The answer to one request. ``keep`` gets the response at its end."""

    def __init__(self, request: ResponsesRequest, piece: Bytes, keep: Keep = lambda response, message: None) -> None:
        self._keep = keep
        self._request, self._piece = request, piece
        head = {"id": new_id("resp_"), "object": "response", "created_at": now(), "model": request.model or ""}
        self.response: JsonObject = {
            **head,
            "status": "in_progress",
            "completed_at": None,
            "error": None,
            "incomplete_details": None,
            **echoed(request),
            "output": [],
            "usage": None,
        }
        self._number = -1
        #: Channel, id, text and log probabilities of the item that is growing.
        self._channel, self._id, self._text = "", "", ""
        self._logprobs: list[JsonObject] = []
        self._calls = SentCalls()
        #: The call that is growing.
        self._call: JsonObject | None = None

    def feed(self, event: Begun | Delta | Done) -> Iterator[Sent]:
        if isinstance(event, Begun):
            self.response["model"] = event.model
            yield self._sent("response.created", response=self._snapshot())
            yield self._sent("response.in_progress", response=self._snapshot())
        elif isinstance(event, Delta):
            yield from self._delta(event)
        else:
            yield from self._call_parts(self._calls.rest(event.completion))
            yield from self._close()
            self._complete(event)
            kind = "response.incomplete" if self.response["incomplete_details"] else "response.completed"
            yield self._sent(kind, response=self._snapshot())

    def _sent(self, kind: str, **fields: Any) -> Sent:
        self._number += 1
        return Sent({"type": kind, "sequence_number": self._number, **fields}, kind)

    def _snapshot(self) -> JsonObject:
        return {**self.response, "output": list(self.response["output"])}

    @property
    def _place(self) -> JsonObject:
        return {"item_id": self._id, "output_index": len(self.response["output"]), "content_index": 0}

    def _delta(self, event: Delta) -> Iterator[Sent]:
        chunk = event.chunk
        if chunk.text or (chunk.logprobs and self._channel == chunk.channel):
            yield from self._text_delta(event)
        yield from self._call_parts(self._calls.add(chunk.calls))

    def _text_delta(self, event: Delta) -> Iterator[Sent]:
        chunk = event.chunk
        prefix, kind, part, name = _ITEMS[chunk.channel]
        if self._channel != chunk.channel:
            yield from self._close()
            self._channel, self._id = chunk.channel, new_id(prefix)
            yield self._added(_item(kind, self._id, None))
            yield self._sent("response.content_part.added", **self._place, part=_part(part, ""))
        self._text += chunk.text
        found = self._entries(chunk.logprobs) if part == "output_text" else []
        self._logprobs += found
        extra = {"localspec": sources(event)} if self._request.sources else {}
        more = {"logprobs": found} if part == "output_text" else {}
        yield self._sent(f"{name}.delta", **self._place, delta=chunk.text, **more, **extra)

    def _entries(self, logprobs: Sequence[TokenLogprobs]) -> list[JsonObject]:
        return list(chat_logprobs(logprobs, self._piece)["content"])

    def _added(self, item: JsonObject) -> Sent:
        return self._sent("response.output_item.added", output_index=len(self.response["output"]), item=item)

    def _item_done(self, item: JsonObject) -> Sent:
        sent = self._sent("response.output_item.done", output_index=len(self.response["output"]), item=item)
        self.response["output"].append(item)
        return sent

    def _close(self) -> Iterator[Sent]:
        """End the item that is growing."""
        if self._call is not None:
            yield from self._close_call(self._call)
        if not self._channel:
            return
        _, kind, part, name = _ITEMS[self._channel]
        more = {"logprobs": self._logprobs} if part == "output_text" else {}
        whole = _part(part, self._text, self._logprobs)
        yield self._sent(f"{name}.done", **self._place, text=self._text, **more)
        yield self._sent("response.content_part.done", **self._place, part=whole)
        yield self._item_done(_item(kind, self._id, whole))
        self._channel, self._text, self._logprobs = "", "", []

    def _call_parts(self, parts: Iterable[CallPart]) -> Iterator[Sent]:
        for part in parts:
            if part.name is not None:
                yield from self._close()
                self._call = _call_item(part.id, part.name, "", "in_progress")
                yield self._added(self._call)
            elif self._call is not None:
                self._call = {**self._call, "arguments": self._call["arguments"] + part.arguments}
                yield self._sent(f"{_ARGUMENTS}.delta", **self._call_place(self._call), delta=part.arguments)

    def _call_place(self, item: JsonObject) -> JsonObject:
        return {"item_id": item["id"], "output_index": len(self.response["output"])}

    def _close_call(self, item: JsonObject) -> Iterator[Sent]:
        item = {**item, "status": "completed"}
        yield self._sent(f"{_ARGUMENTS}.done", **self._call_place(item), name=item["name"], arguments=item["arguments"])
        yield self._item_done(item)
        self._call = None

    def end(self) -> Iterator[Sent]:
        return iter(())

    def ping(self) -> Sent:
        """An event: Codex counts no comments."""
        return self._sent("response.in_progress", response=self._snapshot())

    def fail(self, body: JsonObject) -> Iterator[Sent]:
        self.response |= {"status": "failed", "error": {"code": "server_error", "message": body["error"]["message"]}}
        yield self._sent("response.failed", response=self._snapshot())

    def whole(self, done: Sequence[Done]) -> JsonObject:
        (event,) = done
        one, output = event.completion, self.response["output"]
        if one.thought:
            output.append(_item("reasoning", new_id("rs_"), _part("reasoning_text", one.thought)))
        if one.text or not one.tool_calls:
            part = _part("output_text", one.text, self._entries(_of_answer(one, event.thought_tokens)))
            output.append(_item("message", new_id("msg_"), part))
        output += [_call_item(call["id"], **call["function"]) for call in one.tool_calls]
        self._complete(event)
        return self._snapshot()

    def _complete(self, event: Done) -> None:
        asked, cached, answered, thought = sums([event])
        cut = event.completion.finish_reason == "length"
        self.response |= {
            "status": "incomplete" if cut else "completed",
            "completed_at": None if cut else now(),
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "usage": {
                "input_tokens": asked,
                "input_tokens_details": {"cached_tokens": cached},
                "output_tokens": answered,
                "output_tokens_details": {"reasoning_tokens": thought},
                "total_tokens": asked + answered,
            },
            **extras([event]),
        }
        self._keep(self._snapshot(), event.completion.message)


def _of_answer(done: Completion, thought_tokens: int) -> Sequence[TokenLogprobs]:
    """Log probabilities of the answer, which follows the thoughts."""
    return (done.logprobs or ())[thought_tokens:]


def _part(kind: str, text: str, logprobs: Sequence[JsonObject] = ()) -> JsonObject:
    more = {"annotations": [], "logprobs": list(logprobs)} if kind == "output_text" else {}
    return {"type": kind, "text": text, **more}


def _item(kind: str, name: str, content: JsonObject | None) -> JsonObject:
    """An item; without ``content`` it is growing."""
    status = "in_progress" if content is None else "completed"
    item: JsonObject = {"id": name, "type": kind, "status": status, "content": [content] if content else []}
    return {**item, "role": "assistant"} if kind == "message" else {**item, "summary": []}


def _call_item(call_id: str, name: str, arguments: str, status: str = "completed") -> JsonObject:
    return {
        "id": new_id("fc_"),
        "type": "function_call",
        "status": status,
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
    }
