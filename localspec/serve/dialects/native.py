"""llama-server's own completions and infill, which editors speak."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from localspec.generation.logprobs import TokenLogprobs
from localspec.generation.prompt import Infill
from localspec.serve.dialects.answer import LEAST, extras, sources, stop_met
from localspec.serve.dialects.fields import (
    Ignored,
    JsonObject,
    RawPrompts,
    Shared,
    Unsupported,
    prompts_of,
    refuse,
    shared_options,
)
from localspec.serve.dialects.job import Ask, Begun, Bytes, Delta, Done, Prompt, Sent


class NativeFields(Shared, kw_only=True):
    """Fields of both paths."""

    n_predict: (
        Annotated[int, Meta(ge=-1, description="Most tokens; -1: no limit; 0 reads the prompt into the cache.")] | None
    ) = None
    max_tokens: Annotated[int | None, Meta(description="Another name of n_predict.")] = None
    stop: str | list[str] | None = None
    n_probs: Annotated[int, Meta(ge=0, le=20)] | None = None
    return_tokens: Annotated[bool | None, Meta(description="Return the ids of the answer, too.")] = None
    response_fields: Annotated[list[str] | None, Meta(description="Fields of the answer to return; a/b is b in a.")] = (
        None
    )
    ignore_eos: Unsupported = None
    post_sampling_probs: Unsupported = None
    lora: Unsupported = None
    cache_prompt: Ignored = None
    id_slot: Ignored = None
    samplers: Ignored = None
    n_indent: Ignored = None
    t_max_predict_ms: Ignored = None


class NativeRequest(NativeFields, kw_only=True):
    """Body of ``/completion``."""

    prompt: RawPrompts


class ExtraFile(msgspec.Struct, kw_only=True):
    """Another file that tells of the text."""

    text: str
    filename: str = "tmp"


class InfillRequest(NativeFields, kw_only=True):
    """Body of ``/infill``: the gap between ``input_prefix`` and ``input_suffix``, whose text begins with ``prompt``."""

    input_prefix: str
    input_suffix: str
    prompt: str = ""
    input_extra: list[ExtraFile] | None = None


def native_ask(request: NativeRequest, limit: int | None = None) -> Ask:
    """The request in the form of the engine. Raises :class:`RequestError`."""
    return _ask(request, prompts_of(request.prompt), limit)


def infill_ask(request: InfillRequest, limit: int | None = None) -> Ask:
    """The request in the form of the engine. Raises :class:`RequestError`."""
    extra = tuple((one.filename, one.text) for one in request.input_extra or ())
    return _ask(request, (Infill(request.input_prefix, request.input_suffix, request.prompt, extra),), limit)


def _ask(request: NativeFields, prompts: Sequence[Prompt], limit: int | None) -> Ask:
    refuse(request, "ignore_eos", "post_sampling_probs", "lora")
    most = request.max_tokens if request.n_predict is None else request.n_predict
    options = shared_options(request, 1 if most == 0 else most, limit)
    options |= {"stop": request.stop} if request.stop else {}
    if request.n_probs:
        options["logprobs"] = request.n_probs
    return Ask(tuple(prompts), options, request.model, user=request.user or "")


class NativeView:
    """The answer to one request."""

    def __init__(self, request: NativeRequest | InfillRequest, ask: Ask, piece: Bytes) -> None:
        self._request, self._ask, self._piece = request, ask, piece
        self._model, self._texts = "", tuple[str, ...]()
        self._counts: dict[int, int] = {}
        self._prompt_tokens = 0
        most = request.max_tokens if request.n_predict is None else request.n_predict
        #: True if only the prompt is to be read.
        self._silent = most == 0

    def feed(self, event: Begun | Delta | Done) -> Iterator[Sent]:
        if isinstance(event, Begun):
            self._model, self._texts, self._prompt_tokens = event.model, event.texts, event.prompt_tokens
        elif isinstance(event, Done):
            yield Sent(self._final(event, ""))
        elif event.chunk.tokens and not self._silent:
            chunk = event.chunk
            count = self._counts[event.index] = self._counts.get(event.index, 0) + len(chunk.tokens)
            yield Sent(
                {
                    "index": event.index,
                    "content": chunk.text,
                    "tokens": list(chunk.tokens),
                    "stop": False,
                    "id_slot": -1,
                    "tokens_predicted": count,
                    "tokens_evaluated": self._prompt_tokens,
                    **self._probabilities(chunk.logprobs),
                    **({"localspec": sources(event)} if self._request.sources else {}),
                }
            )
        elif event.chunk.text and not self._silent:
            yield Sent({"index": event.index, "content": event.chunk.text, "tokens": [], "stop": False})

    def _probabilities(self, found: Sequence[TokenLogprobs]) -> JsonObject:
        def entry(token: int, logprob: float) -> JsonObject:
            data = self._piece(token)
            text = data.decode("utf-8", errors="replace")
            return {"id": token, "token": text, "bytes": list(data), "logprob": max(logprob, LEAST)}

        entries = [
            {**entry(one.token, one.logprob), "top_logprobs": [entry(*pair) for pair in one.top]} for one in found
        ]
        return {"completion_probabilities": entries} if entries else {}

    def _final(self, event: Done, content: str) -> JsonObject:
        done, options = event.completion, self._ask.options
        stops = options.get("stop") or ()
        word = stop_met(done, [stops] if isinstance(stops, str) else stops, self._piece)
        kind = "word" if word else {"length": "limit", "stop": "eos"}.get(done.finish_reason, "none")
        stats, shown = done.stats, 0 if self._silent else len(done.tokens)
        found = {
            "index": event.index,
            "content": "" if self._silent else content,
            "tokens": list(done.tokens) if self._request.return_tokens and not self._silent else [],
            "id_slot": -1,
            "stop": True,
            "model": self._model,
            "tokens_predicted": shown,
            "tokens_evaluated": stats.prompt_tokens,
            "generation_settings": {
                **{key: value for key, value in options.items() if key != "response_format"},
                "n_predict": 0 if self._silent else options.get("max_tokens", -1),
                "seed": done.seed,
            },
            "prompt": self._texts[event.index // self._ask.n] if self._texts else "",
            "has_new_line": "\n" in done.text,
            "truncated": False,
            "stop_type": kind,
            "stopping_word": word or "",
            "tokens_cached": stats.prompt_tokens + shown,
            **self._probabilities(done.logprobs or ()),
            **extras([event]),
        }
        fields = [name for name in self._request.response_fields or () if name]
        return _chosen(found, fields) if self._request.response_fields else found

    def end(self) -> Iterator[Sent]:
        return iter(())

    def ping(self) -> None:
        return None

    def fail(self, body: JsonObject) -> Iterator[Sent]:
        yield Sent(body, "error")

    def whole(self, done: Sequence[Done]) -> Any:
        found = [self._final(event, event.completion.text) for event in done]
        return found[0] if len(found) == 1 and not _is_list(self._request) else found


def _is_list(request: NativeRequest | InfillRequest) -> bool:
    """True if a list of prompts was given, even of one."""
    return (
        isinstance(request, NativeRequest)
        and isinstance(request.prompt, list)
        and not isinstance(request.prompt[0], int)
    )


def _chosen(found: JsonObject, names: Sequence[str]) -> JsonObject:
    """The fields of ``found`` with these names; one in another has both names, with a slash between them."""
    chosen = {}
    for name in names:
        value: Any = found
        for step in name.split("/"):
            value = value.get(step) if isinstance(value, dict) else None
        if value is not None:
            chosen[name] = value
    return chosen
