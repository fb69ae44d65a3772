"""OpenAI's completions: the continuation of raw text."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Sequence
from typing import Annotated

from msgspec import Meta

from localspec.generation.prompt import Infill
from localspec.serve.dialects.answer import (
    FINGERPRINT,
    EndsWithDone,
    extras,
    finish_reason,
    new_id,
    now,
    sources,
    text_logprobs,
    usage,
)
from localspec.serve.dialects.chat import StreamOptions
from localspec.serve.dialects.fields import JsonObject, RawPrompts, Shared, prompts_of, shared_options
from localspec.serve.dialects.job import Ask, Begun, Bytes, Delta, Done, Prompt, Sent
from localspec.serve.dialects.tools import json_format
from localspec.serve.problem import unsupported


class CompletionRequest(Shared, kw_only=True):
    """Body of ``/v1/completions``."""

    prompt: RawPrompts
    n: Annotated[int, Meta(ge=1, le=16, description="Answers to give to each prompt.")] | None = None
    max_tokens: int | None = None
    stop: str | list[str] | None = None
    stream_options: StreamOptions | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: JsonObject | None = None
    best_of: Annotated[int | None, Meta(description="Only 1 is supported.")] = None
    echo: Annotated[bool | None, Meta(description="Answers begin with the text of their prompt.")] = None
    suffix: Annotated[str | None, Meta(description="Text behind the gap to fill, for models for code.")] = None


def completion_ask(request: CompletionRequest, limit: int | None = None) -> Ask:
    """The request in the form of the engine. Raises :class:`RequestError`."""
    if request.echo and request.logprobs is not None:
        raise unsupported("echo", "leave out logprobs, which a prompt does not have")
    if request.best_of not in (None, 1):
        raise unsupported("best_of", "n gives several answers")
    options = shared_options(request, request.max_tokens, limit)
    options |= {"stop": request.stop} if request.stop else {}
    if request.logprobs is not None:
        options["logprobs"] = request.logprobs
    if answer := json_format(request.response_format, "response_format"):
        options["response_format"] = answer
    prompts: tuple[Prompt, ...] = prompts_of(request.prompt)
    if request.suffix:
        prompts = tuple(gap(prompt, request.suffix) for prompt in prompts)
    return Ask(prompts, options, request.model, request.n or 1, request.user or "")


def gap(prompt: Prompt, suffix: str) -> Infill:
    """The gap between a text and ``suffix``. Raises :class:`RequestError`."""
    if not isinstance(prompt, str):
        raise unsupported("suffix", "it needs a prompt that is text")
    return Infill(prompt, suffix)


class CompletionView(EndsWithDone):
    """The answer to one request."""

    def __init__(self, request: CompletionRequest, ask: Ask, piece: Bytes) -> None:
        self._request, self._ask, self._piece = request, ask, piece
        self._head = {"id": new_id("cmpl-"), "object": "text_completion", "created": now(), "model": ""}
        self._done: list[Done] = []
        self._offsets: dict[int, int] = {}
        self._echoes: tuple[str, ...] = ()

    def feed(self, event: Begun | Delta | Done) -> Iterator[Sent]:
        if isinstance(event, Begun):
            self._head["model"] = event.model
            if self._request.echo:
                asked = zip(self._ask.prompts, event.texts, strict=True)
                self._echoes = tuple(one.prefix if isinstance(one, Infill) else text for one, text in asked)
                for index in range(len(self._echoes) * self._ask.n):
                    yield self._sent([self._choice(index, self._echo(index), None, None)], {})
        elif isinstance(event, Done):
            insort(self._done, event, key=lambda one: one.index)
            reason = finish_reason(event.completion)
            yield self._sent([self._choice(event.index, "", None, reason)], extras([event]))
        else:
            chunk, offset = event.chunk, self._offsets.get(event.index, 0)
            found = text_logprobs(chunk.logprobs, self._piece, offset) if chunk.logprobs else None
            self._offsets[event.index] = offset + len(chunk.text)
            if chunk.text or found:
                extra = {"localspec": sources(event)} if self._request.sources else {}
                yield self._sent([self._choice(event.index, chunk.text, found, None)], extra)

    def _echo(self, index: int) -> str:
        return self._echoes[index // self._ask.n] if self._echoes else ""

    def _sent(self, choices: list[JsonObject], more: JsonObject) -> Sent:
        return Sent({**self._head, "choices": choices, "system_fingerprint": FINGERPRINT, **more})

    @staticmethod
    def _choice(index: int, text: str, logprobs: JsonObject | None, reason: str | None) -> JsonObject:
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}

    def end(self) -> Iterator[Sent]:
        options = self._request.stream_options
        if options and options.include_usage:
            yield self._sent([], {"usage": usage(self._done, len(self._ask.prompts)), **extras(self._done)})
        yield Sent("[DONE]")

    def whole(self, done: Sequence[Done]) -> JsonObject:
        choices = [
            self._choice(
                index,
                self._echo(index) + one.text,
                None if one.logprobs is None else text_logprobs(one.logprobs, self._piece),
                finish_reason(one),
            )
            for index, one in enumerate(event.completion for event in done)
        ]
        more = {"usage": usage(done, len(self._ask.prompts)), **extras(done)}
        return {**self._head, "choices": choices, "system_fingerprint": FINGERPRINT, **more}
