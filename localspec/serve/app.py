"""The ASGI application: routes, errors and access around the endpoints."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from localspec.serve.access import Access, Guard
from localspec.serve.endpoints import ENDPOINTS, Endpoint, both_prefixes, openapi
from localspec.serve.page import page_routes
from localspec.serve.problem import RequestError
from localspec.serve.scheduler import known
from localspec.serve.service import Service
from localspec.serve.stream import json_response, problem_response

_METHODS = ["GET", "POST", "DELETE"]


def make_app(service: Service, access: Access) -> Starlette:
    """The application of ``service`` for those whom ``access`` allows."""
    description = openapi()

    async def describe(request: Request) -> Response:
        return json_response(description)

    routes = [Route(path, _safely(service, one), methods=[one.method]) for one in ENDPOINTS for path in _paths(one)]
    routes += [Route("/openapi.json", describe), *page_routes()]
    # The outermost first: a page that may ask gets its headers with every answer, also with a refusal.
    cors = Middleware(
        CORSMiddleware, allow_origins=list(access.origins), allow_methods=_METHODS, allow_headers=["*"], max_age=3600
    )
    handlers = {HTTPException: _http_error}
    return Starlette(
        routes=routes,
        middleware=[*([cors] if access.origins else []), Middleware(Guard, access=access)],
        exception_handlers=handlers,  # type: ignore[arg-type]  # starlette's own handlers have this type
    )


def _paths(endpoint: Endpoint) -> tuple[str, ...]:
    return tuple(both_prefixes(endpoint.path))


def _safely(service: Service, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint, whose errors are answers."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint.handler(service, request)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except Exception as error:
            problem = known(error)
            service.refused(request.url.path, problem)
            return problem_response(problem, request.url.path)

    return answer


async def _http_error(request: Request, error: HTTPException) -> Response:
    """Paths and methods that do not exist."""
    there = "/v1/chat/completions, /v1/responses, /v1/messages; /openapi.json lists all"
    texts = {404: f"there is no {request.url.path!r:.80} here; there are {there}.", 405: "this path has other methods."}
    problem = RequestError(error.status_code, texts.get(error.status_code, str(error.detail)))
    response = problem_response(problem, request.url.path)
    response.headers.update(error.headers or {})
    return response
