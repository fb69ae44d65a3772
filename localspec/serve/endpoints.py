"""The table of paths, from which both the routes and ``/openapi.json`` are made."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from localspec._version import __version__
from localspec.params import MAX_SEED, SAMPLING_RANGES
from localspec.serve.access import OPEN_PATHS
from localspec.serve.dialects.chat import ChatRequest
from localspec.serve.dialects.completions import CompletionRequest
from localspec.serve.dialects.fields import JsonObject
from localspec.serve.dialects.messages import CountRequest, MessagesRequest
from localspec.serve.dialects.native import InfillRequest, NativeRequest
from localspec.serve.dialects.responses import ResponsesRequest
from localspec.serve.requests import DetokenizeRequest, TemplateRequest, TokenizeRequest
from localspec.serve.service import Service

Handler = Callable[[Service, Request], Awaitable[Response]]


@dataclass(frozen=True)
class Endpoint:
    """One method of a path. ``body``: the declared form of the request. ``streams``: it may answer with events."""

    method: str
    path: str
    handler: Handler
    summary: str
    body: type[msgspec.Struct] | None = None
    streams: bool = False


ENDPOINTS = (
    Endpoint("POST", "/v1/chat/completions", Service.chat_completions, "OpenAI chat completions", ChatRequest, True),
    Endpoint("POST", "/v1/chat/completions/input_tokens", Service.count_chat, "Tokens of a chat", ChatRequest),
    Endpoint("POST", "/v1/completions", Service.completions, "OpenAI completions", CompletionRequest, True),
    Endpoint("POST", "/completion", Service.native, "llama-server's completions", NativeRequest, True),
    Endpoint("POST", "/infill", Service.infill, "llama-server's infill: fills a gap in code", InfillRequest, True),
    Endpoint("POST", "/v1/responses", Service.responses, "OpenAI responses", ResponsesRequest, True),
    Endpoint("POST", "/v1/responses/input_tokens", Service.count_responses, "Tokens of an input", ResponsesRequest),
    Endpoint("GET", "/v1/responses/{id}", Service.get_response, "A stored response"),
    Endpoint("DELETE", "/v1/responses/{id}", Service.delete_response, "Forget a stored response"),
    Endpoint("POST", "/v1/messages", Service.messages, "Anthropic messages", MessagesRequest, True),
    Endpoint("POST", "/v1/messages/count_tokens", Service.count_messages, "Tokens of Anthropic messages", CountRequest),
    Endpoint("GET", "/v1/models", Service.list_models, "Models on disk"),
    Endpoint("GET", "/v1/models/{id:path}", Service.get_model, "A model on disk"),
    Endpoint("POST", "/v1/embeddings", Service.embeddings, "Not supported: answers 501"),
    Endpoint("POST", "/tokenize", Service.tokenize, "Text to token ids", TokenizeRequest),
    Endpoint("POST", "/detokenize", Service.detokenize, "Token ids to text", DetokenizeRequest),
    Endpoint("POST", "/apply-template", Service.apply_template, "Messages to the prompt's text", TemplateRequest),
    Endpoint("GET", "/health", Service.health, "ok, or 503 while stopping"),
    Endpoint("GET", "/metrics", Service.prometheus, "Counters in Prometheus's text format"),
    Endpoint("GET", "/props", Service.props, "The model and its settings"),
)
#: Status → description of an error, which every path may answer.
_ERRORS = {
    "400": "A field is wrong, or not supported",
    "401": "The key is missing or wrong",
    "403": "This host or origin may not ask",
    "404": "No such model or response",
    "408": "The body was too slow",
    "413": "The body is too long",
    "500": "The model failed",
    "501": "Not supported",
    "503": "The queue is full, or the server is stopping",
}


def openapi() -> JsonObject:
    """The description of all endpoints."""
    bodies = [endpoint.body for endpoint in ENDPOINTS if endpoint.body]
    _, schemas = msgspec.json.schema_components(bodies, ref_template="#/components/schemas/{name}")
    for schema in schemas.values():
        _add_ranges(schema.get("properties", {}))
    schemas["Error"] = {"type": "object", "properties": {"error": {"type": "object"}}, "required": ["error"]}
    paths: JsonObject = {}
    for endpoint in ENDPOINTS:
        path = re.sub(r":\w+}", "}", endpoint.path)
        paths.setdefault(path, {})[endpoint.method.lower()] = _operation(endpoint, path)
    return {
        "openapi": "3.1.0",
        "info": {"title": "localspec", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _operation(endpoint: Endpoint, path: str) -> JsonObject:
    answer = "text/plain" if endpoint.path == "/metrics" else "application/json"
    content: JsonObject = {answer: {"schema": {"type": "string" if answer == "text/plain" else "object"}}}
    if endpoint.streams:
        content["text/event-stream"] = {}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    found: JsonObject = {
        "summary": endpoint.summary,
        "operationId": endpoint.handler.__name__,
        "responses": {
            "200": {"description": "The answer", "content": content},
            **{status: {"description": text, "content": error} for status, text in _ERRORS.items()},
        },
    }
    if endpoint.body is not None:
        schema = {"$ref": f"#/components/schemas/{endpoint.body.__name__}"}
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    names = re.findall(r"{(\w+)}", path)
    if names:
        found["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ]
    if endpoint.path in OPEN_PATHS:
        found["security"] = []
    return found


def _add_ranges(fields: JsonObject) -> None:
    """Add the ranges of the engine's options to the schemas of the fields of these names."""
    for name, (low, high, hint) in {**SAMPLING_RANGES, "seed": (-1, MAX_SEED, "")}.items():
        for kind in fields.get(name, {}).get("anyOf", ()):
            if kind.get("type") in ("number", "integer"):
                kind["minimum"] = low
                if high != float("inf"):
                    kind["maximum"] = high
        if hint and name in fields:
            fields[name]["description"] = hint.strip(" ()")


def both_prefixes(path: str) -> Sequence[str]:
    """A path with and without ``/v1``, as llama-server has them."""
    return (path, path.removeprefix("/v1")) if path.startswith("/v1/") else (path, f"/v1{path}")
