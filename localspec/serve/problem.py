"""Errors of one request: a status, a sentence, and the field that it is about. No message holds a path."""

from __future__ import annotations

import re
from typing import Any

from localspec.errors import (
    InputError,
    LocalspecError,
    MissingFeatureError,
    ModelError,
    ModelNotFoundError,
    PromptTooLongError,
    TemplateError,
    UsageError,
)

#: The folders of a path, which a message leaves out.
_FOLDERS = re.compile(r"(?:(?<![\w.])[A-Za-z]:|~|(?<![\w<]))[\\/](?:[^\s\\/,;:'\"()]+[\\/])+")
#: A message about an option begins with its name.
_OPTION = re.compile(r"([a-z_]+) (?:is|holds|names|has|and)\b")
#: Status → type of an OpenAI error, and of an Anthropic one.
_TYPES = {
    400: ("invalid_request_error", "invalid_request_error"),
    401: ("authentication_error", "authentication_error"),
    403: ("permission_error", "permission_error"),
    404: ("not_found_error", "not_found_error"),
    405: ("invalid_request_error", "invalid_request_error"),
    408: ("invalid_request_error", "invalid_request_error"),
    413: ("invalid_request_error", "request_too_large"),
    500: ("server_error", "api_error"),
    501: ("not_implemented_error", "api_error"),
    503: ("unavailable_error", "overloaded_error"),
}


#: Error of the engine → status, field and code. The first that fits counts.
_KINDS: tuple[tuple[type[BaseException], int, str | None, str | None], ...] = (
    (PromptTooLongError, 400, "messages", "context_length_exceeded"),
    (UsageError, 400, None, None),
    (InputError, 400, None, None),
    (TemplateError, 400, "messages", None),
    (ModelNotFoundError, 404, "model", "model_not_found"),
    (MissingFeatureError, 501, None, None),
    (ModelError, 500, "model", "model_not_loaded"),
    (LocalspecError, 500, None, None),
    (MemoryError, 503, None, None),
)


class RequestError(Exception):
    """Why a request fails. ``field``: the one it is about. ``retry_after``: seconds."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        field: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.field, self.code, self.retry_after = status, field, code, retry_after

    @property
    def message(self) -> str:
        return str(self)

    def openai(self) -> dict[str, Any]:
        """The body of an error in OpenAI's interfaces."""
        kind = _TYPES.get(self.status, _TYPES[500])[0]
        return {"error": {"message": self.message, "type": kind, "param": self.field, "code": self.code}}

    def anthropic(self) -> dict[str, Any]:
        """The body of an error in Anthropic's interface."""
        kind = _TYPES.get(self.status, _TYPES[500])[1]
        return {"type": "error", "error": {"type": kind, "message": self.message}}

    def body(self, path: str) -> dict[str, Any]:
        """The body of an error in the interface of ``path``."""
        return self.anthropic() if "/messages" in path else self.openai()


def unsupported(field: str, hint: str = "leave it out", kind: object = None) -> RequestError:
    """A field, or a value of it of that ``kind``, that the server does not support."""
    of = "" if kind is None else f" of the kind {kind!r:.40}"
    return RequestError(400, f"{field}{of} is not supported; {hint}.", field=field, code="unsupported_parameter")


def problem_of(error: BaseException) -> RequestError:
    """The error for the client that stands for an error of the engine."""
    if isinstance(error, RequestError):
        return error
    for kind, status, field, code in _KINDS:
        if isinstance(error, kind):
            option = _OPTION.match(str(error)) if status == 400 else None
            retry = 10 if status == 503 else None
            about = "tools" if "takes no tools" in str(error) else field or (option[1] if option else None)
            return RequestError(status, without_folders(str(error)), field=about, code=code, retry_after=retry)
    return RequestError(500, "this is an error in localspec itself; the server's own output has more.")


def without_folders(text: str) -> str:
    """``text`` with file names in place of paths."""
    return _FOLDERS.sub("", text)
