"""Bodies of requests → their declared form."""

from __future__ import annotations

import re
from functools import cache
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta
from starlette.requests import Request

from localspec.serve.dialects.chat import ChatMessage
from localspec.serve.dialects.fields import JsonObject
from localspec.serve.problem import RequestError

T = TypeVar("T")
_PLACE = re.compile(r"^(?P<text>.*?)(?: - at `\$\.?(?P<place>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"missing required field `(\w+)`")


class TokenizeRequest(msgspec.Struct, kw_only=True):
    """Body of ``/tokenize``."""

    content: str
    model: str | None = None
    add_special: Annotated[bool | None, Meta(description="Add the BOS of models that have one.")] = None
    parse_special: Annotated[bool | None, Meta(description="Recognise control tokens. Default true.")] = None
    with_pieces: Annotated[bool | None, Meta(description="Return the text of each token, too.")] = None


class DetokenizeRequest(msgspec.Struct, kw_only=True):
    """Body of ``/detokenize``."""

    tokens: list[Annotated[int, Meta(ge=0)]]
    model: str | None = None


class TemplateRequest(msgspec.Struct, kw_only=True):
    """Body of ``/apply-template``."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    model: str | None = None
    tools: list[JsonObject] | None = None
    chat_template_kwargs: JsonObject | None = None


async def read(request: Request, kind: type[T]) -> T:
    """The body as ``kind``. Raises :class:`RequestError` with the field that is wrong."""
    body = await request.body()
    try:
        return _decoder(kind).decode(body)  # type: ignore[no-any-return, arg-type]
    except msgspec.ValidationError as error:
        raise _problem(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError(400, f"the body is no valid JSON: {error}.") from error
    except RecursionError as error:
        raise RequestError(400, "the body is nested too deeply.") from error


@cache
def _decoder(kind: type[Any]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def _problem(message: str) -> RequestError:
    found = _PLACE.match(message)
    text, place = (found["text"], found["place"]) if found else (message, None)
    missing = _MISSING.search(text)
    field = ".".join(part for part in (place, missing[1] if missing else None) if part) or None
    text = text[:1].lower() + text[1:]
    return RequestError(400, f"{field}: {text}." if field else f"{text}.", field=field)
