"""Messages → prompt text, with the model's own Jinja template in a sandbox.

The template comes from a file that someone else made: it runs without access to Python's internals, and anything it
raises becomes a :class:`TemplateError`.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from jinja2 import TemplateError as JinjaError
from jinja2.exceptions import SecurityError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from localspec.errors import InputError, TemplateError

Message = Mapping[str, Any]
#: Longest text a template may give, so that a hostile one cannot fill the memory.
_MAX_TEXT = 64 * 2**20
_SENTINEL = "localspec\u2063reply\u2063here"


class ChatTemplate:
    """One model's chat template. ``bos`` and ``eos`` are the texts of those tokens."""

    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        self._specials = {"bos_token": bos, "eos_token": eos}
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.globals.update(
            raise_exception=_raise, strftime_now=lambda form: datetime.datetime.now().strftime(form)
        )
        environment.filters["tojson"] = _tojson
        try:
            self._template = environment.from_string(source)
        except Exception as error:  # Jinja's, or what Python's compiler says of the code that Jinja made
            raise TemplateError(f"the model's chat template cannot be parsed: {error}. Use --raw.") from error

    def render(self, messages: Sequence[Message], *, reply: bool = True, thinking: bool = False) -> str:
        """The prompt text; with ``reply`` it ends where the model's answer begins.

        Raises :class:`TemplateError` where the template raises or tries to leave the sandbox.
        """
        parts: list[str] = []
        size = 0
        try:
            for part in self._template.generate(
                messages=[dict(message) for message in messages],
                add_generation_prompt=reply,
                enable_thinking=thinking,
                **self._specials,
            ):
                parts.append(part)
                size += len(part)
                if size > _MAX_TEXT:
                    raise TemplateError("the model's chat template writes without end. Use --raw.")
        except SecurityError as error:
            raise TemplateError(
                f"the model's chat template tried to leave its sandbox ({error}). Do not trust this file; "
                "--raw works without its template."
            ) from error
        except TemplateError:
            raise
        except Exception as error:  # whatever a stranger's template does
            raise TemplateError(
                f"the model's chat template refused these messages: {error or type(error).__name__}. "
                "Check their roles and order, or use --raw."
            ) from error
        return "".join(parts)

    def after_reply(self, messages: Sequence[Message], index: int, prompt: str, *, thinking: bool) -> str | None:
        """The text that follows the reply ``messages[index]`` when it was generated after ``prompt``.

        None where the template does not simply put the reply after that prompt.
        """
        marked = [dict(message) for message in messages]
        marked[index]["content"] = _SENTINEL
        head, found, tail = self.render(marked, thinking=thinking).partition(_SENTINEL)
        return tail if found and _SENTINEL not in tail and prompt.startswith(head) else None


def check_messages(messages: Sequence[Message]) -> None:
    """Raise :class:`InputError` unless it is a non-empty list of ``{"role": text, "content": text}``."""
    if isinstance(messages, (str, bytes)) or not isinstance(messages, Sequence) or not messages:
        raise InputError(f"messages are {type(messages).__name__!r}; give a list of at least one message.")
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise InputError(f'message {i} is {message!r:.80}; it must be {{"role": ..., "content": ...}}.')
        for key in ("role", "content"):
            if not isinstance(message.get(key), str):
                raise InputError(f"message {i} has {key} {message.get(key)!r:.80}; it must be text.")


def _raise(message: str) -> NoReturn:
    raise JinjaError(message)


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)
