"""Endpoints: what each path answers."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from localspec._version import __version__
from localspec.engine import Engine
from localspec.serve.catalog import Model, Need
from localspec.serve.dialects.chat import ChatRequest, chat_ask, chat_messages
from localspec.serve.dialects.chat_answer import ChatView
from localspec.serve.dialects.completions import CompletionRequest, CompletionView, completion_ask
from localspec.serve.dialects.fields import JsonObject, continues
from localspec.serve.dialects.job import Ask, Bytes, View
from localspec.serve.dialects.messages import CountRequest, MessagesRequest, count_ask, messages_ask
from localspec.serve.dialects.messages_answer import MessagesView
from localspec.serve.dialects.native import InfillRequest, NativeRequest, NativeView, infill_ask, native_ask
from localspec.serve.dialects.responses import ResponsesRequest, input_messages, responses_ask
from localspec.serve.dialects.responses_answer import ResponsesView
from localspec.serve.metrics import Metrics
from localspec.serve.problem import RequestError
from localspec.serve.requests import DetokenizeRequest, TemplateRequest, TokenizeRequest, read
from localspec.serve.scheduler import Scheduler, prepare
from localspec.serve.store import Store, Stored
from localspec.serve.stream import EventStream, json_response, whole_answer


@dataclass
class Service:
    """The endpoints. ``max_tokens``: most tokens of any answer. ``ping_s``: longest silence of a stream in seconds.

    ``refused`` is told of requests that were refused: the path and the error.
    """

    scheduler: Scheduler
    metrics: Metrics
    need: Callable[[Model], Need | None] = lambda model: None
    max_tokens: int | None = None
    ping_s: float = 15.0
    store: Store = field(default_factory=Store)
    refused: Callable[[str, RequestError], None] = lambda path, problem: None

    async def chat_completions(self, request: Request) -> Response:
        asked = await read(request, ChatRequest)
        ask = chat_ask(asked, self.max_tokens)
        return await self._answer(request, asked.stream, ask, lambda piece: ChatView(asked, piece))

    async def completions(self, request: Request) -> Response:
        asked = await read(request, CompletionRequest)
        ask = completion_ask(asked, self.max_tokens)
        return await self._answer(request, asked.stream, ask, lambda piece: CompletionView(asked, ask, piece))

    async def native(self, request: Request) -> Response:
        asked = await read(request, NativeRequest)
        ask = native_ask(asked, self.max_tokens)
        return await self._answer(request, asked.stream, ask, lambda piece: NativeView(asked, ask, piece))

    async def infill(self, request: Request) -> Response:
        asked = await read(request, InfillRequest)
        ask = infill_ask(asked, self.max_tokens)
        return await self._answer(request, asked.stream, ask, lambda piece: NativeView(asked, ask, piece))

    async def messages(self, request: Request) -> Response:
        asked = await read(request, MessagesRequest)
        ask = messages_ask(asked, self.max_tokens)
        return await self._answer(request, asked.stream, ask, lambda piece: MessagesView(asked, ask, piece))

    async def responses(self, request: Request) -> Response:
        asked = await read(request, ResponsesRequest)
        before = self._before(asked)
        ask = responses_ask(asked, before, self.max_tokens)

        def keep(response: JsonObject, message: JsonObject) -> None:
            if asked.store is not False:  # without the instructions, which hold for one response
                messages = [*before, *input_messages(asked.input), message]
                self.store.keep(response["id"], Stored(response, messages))

        return await self._answer(request, asked.stream, ask, lambda piece: ResponsesView(asked, piece, keep))

    def _before(self, asked: ResponsesRequest) -> list[JsonObject]:
        """Messages of the responses that a request continues."""
        earlier = asked.previous_response_id
        return self.store.get(earlier, "previous_response_id").messages if earlier else []

    async def _answer(
        self, request: Request, stream: bool | None, ask: Ask, make_view: Callable[[Bytes], View]
    ) -> Response:
        job = await self.scheduler.submit(ask, _client(request))
        view = make_view(job.piece)
        if stream:
            return EventStream(job, view, request.url.path, self.ping_s)
        return await whole_answer(job, view, request.receive)

    async def get_response(self, request: Request) -> Response:
        return json_response(self.store.get(request.path_params["id"]).response)

    async def delete_response(self, request: Request) -> Response:
        name = request.path_params["id"]
        self.store.drop(name)
        return json_response({"id": name, "object": "response", "deleted": True})

    async def count_messages(self, request: Request) -> Response:
        return await self._count(request, count_ask(await read(request, CountRequest)))

    async def count_chat(self, request: Request) -> Response:
        return await self._count(request, chat_ask(await read(request, ChatRequest)))

    async def count_responses(self, request: Request) -> Response:
        asked = await read(request, ResponsesRequest)
        return await self._count(request, responses_ask(asked, self._before(asked)))

    async def _count(self, request: Request, ask: Ask) -> Response:
        engine = await self.scheduler.engine(ask.model, _client(request))
        prompts = await asyncio.to_thread(prepare, engine, ask)
        return json_response({"input_tokens": sum(len(prompt.tokens) for prompt in prompts)})

    async def embeddings(self, request: Request) -> Response:
        raise RequestError(501, "localspec computes no embeddings; use a server with an embedding model for them.")

    async def tokenize(self, request: Request) -> Response:
        asked = await read(request, TokenizeRequest)
        engine = await self.scheduler.engine(asked.model, _client(request))
        special = {"add_special": bool(asked.add_special), "parse_special": asked.parse_special is not False}
        tokens = await asyncio.to_thread(engine.tokenize, asked.content, **special)
        if not asked.with_pieces:
            return json_response({"tokens": tokens})
        return json_response({"tokens": [{"id": token, "piece": _piece(engine, token)} for token in tokens]})

    async def detokenize(self, request: Request) -> Response:
        asked = await read(request, DetokenizeRequest)
        engine = await self.scheduler.engine(asked.model, _client(request))
        return json_response({"content": await asyncio.to_thread(engine.detokenize, asked.tokens)})

    async def apply_template(self, request: Request) -> Response:
        asked = await read(request, TemplateRequest)
        engine = await self.scheduler.engine(asked.model, _client(request))
        thinking = bool((asked.chat_template_kwargs or {}).get("enable_thinking"))
        messages = chat_messages(asked.messages)
        more: JsonObject = {"thinking": thinking, "tools": asked.tools, "continue_final": continues(messages)}
        text = await asyncio.to_thread(engine.prompt_text, messages, **more)
        return json_response({"prompt": text})

    async def list_models(self, request: Request) -> Response:
        """Models in the forms of OpenAI's and of Anthropic's list at once."""
        models = await asyncio.to_thread(self.scheduler.engines.catalog.models)
        rows = await asyncio.to_thread(lambda: [self._model(model) for model in models])
        ends = {"first_id": models[0].id, "last_id": models[-1].id, "has_more": False}
        return json_response({"object": "list", "data": rows, **ends})

    async def get_model(self, request: Request) -> Response:
        model = await self.scheduler.model(request.path_params["id"])
        return json_response(await asyncio.to_thread(self._model, model))

    def _model(self, model: Model) -> JsonObject:
        engine, need = self.scheduler.engines.loaded(model), self.need(model)
        return {
            "id": model.id,
            "object": "model",
            "type": "model",
            "display_name": model.id,
            "created": model.created,
            "created_at": _timestamp(model.created),
            "owned_by": "localspec",
            "meta": {
                "bytes": model.bytes,
                "memory_bytes": need.bytes if need else None,
                "loaded": engine is not None,
                "n_ctx": engine.n_ctx if engine else None,
                "drafters": list(engine.drafters) if engine else None,
            },
        }

    async def health(self, request: Request) -> Response:
        if self.scheduler.turns.closed:
            raise RequestError(503, "the server is stopping.", code="stopping", retry_after=10)
        return json_response({"status": "ok"})

    async def prometheus(self, request: Request) -> Response:
        turns = self.scheduler.turns
        text = self.metrics.text(turns.running, turns.waiting)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def props(self, request: Request) -> Response:
        model = await self.scheduler.model(request.query_params.get("model"))
        engine = await self.scheduler.engine(model.id, _client(request))
        return json_response(
            {
                "build_info": f"localspec-{__version__}",
                "model": model.id,
                "architecture": engine.model.architecture,
                "n_ctx": engine.n_ctx,
                "n_ctx_train": engine.model.n_ctx_train,
                "n_vocab": engine.model.n_vocab,
                "total_slots": self.scheduler.turns.parallel,
                "drafters": list(engine.drafters),
                "plain_ms_per_token": _plain_ms(engine),
                "exactness": engine.exactness,
                "notices": list(engine.notices),
                "modalities": {"vision": "picture" in engine.media, "audio": "sound" in engine.media},
            }
        )


def _plain_ms(engine: Engine) -> float | None:
    """Milliseconds of a pass over one token, as the passes of answers show it; None before it is measured."""
    costs = engine.costs
    return round(1000 * (costs.verify.seconds(1) + costs.python), 3) if costs else None


def _client(request: Request) -> str:
    """Tells clients apart in the queue."""
    host = request.client.host if request.client else ""
    return f"{host} {hash((request.headers.get('authorization'), request.headers.get('user-agent')))}"


def _piece(engine: Engine, token: int) -> str | Sequence[int]:
    """The text of a token; its bytes where they are part of a character."""
    data = engine.token_bytes(token)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return list(data)


def _timestamp(seconds: int) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
