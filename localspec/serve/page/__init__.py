"""The page at ``/``: files that are served as they are, without a build step."""

from __future__ import annotations

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_TYPES = {
    "index.html": "text/html",
    "style.css": "text/css",
    "icon.svg": "image/svg+xml",
    **dict.fromkeys(("app.js", "api.js", "chats.js", "media.js", "render.js"), "text/javascript"),
    **dict.fromkeys(("vendor/marked.js", "vendor/purify.js"), "text/javascript"),
}
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def page_routes() -> list[Route]:
    """A route for each file; the page itself is at ``/``."""
    return [_route("/" if name == "index.html" else f"/page/{name}", name) for name in _TYPES]


def _route(path: str, name: str) -> Route:
    content, kind = files(__name__).joinpath(name).read_bytes(), _TYPES[name]

    async def serve(request: Request) -> Response:
        return Response(content, headers=_HEADERS, media_type=kind)

    return Route(path, serve)
