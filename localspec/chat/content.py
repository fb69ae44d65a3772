"""Contents of messages: text, or a list of parts as in the OpenAI chat API, whose texts are joined.

The final message is a question to answer, or, where that is asked, an assistant's text to continue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from localspec.errors import InputError

_PART = '{"type": "text", "text": ...}'


def content_text(content: Any, place: str) -> str:
    """The text of ``content``. The texts of parts become lines, as in llama.cpp's server and vLLM.

    Raises :class:`InputError` for parts that are no text. ``place`` begins the message.
    """
    if isinstance(content, str):
        return content
    if isinstance(content, bytes) or not isinstance(content, Sequence):
        raise InputError(f"{place} has content {content!r:.80}; it must be text, or a list of {_PART}.")
    if not content:
        raise InputError(f"{place} has an empty list as content; it must be text, or a list of {_PART}.")
    return "\n".join(_part_text(part, f"part {number} of {place}") for number, part in enumerate(content, start=1))


def check_final(messages: Sequence[Mapping[str, Any]], *, continued: bool) -> None:
    """Raise :class:`InputError` unless the final one of checked ``messages`` can be answered, or ``continued``."""
    final = messages[-1]
    if final["role"] != "assistant":
        if continued:
            raise InputError(
                f"the final message has the role {final['role']:.40}; only an assistant's can be continued, "
                "so leave out continue_final (--continue)."
            )
    elif final.get("tool_calls"):
        raise InputError("the final message calls tools; add their results, messages of the role tool.")
    elif not continued:
        raise InputError(
            "the final message is the assistant's; add a user message to answer, "
            "or continue the text with continue_final=True (--continue)."
        )
    elif not content_text(final["content"], "the final message").strip():
        raise InputError("the final message is empty, so there is nothing to continue; leave it out.")


def _part_text(part: Any, place: str) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(part, Mapping) or not isinstance(kind, str):
        raise InputError(f"{place} is {part!r:.80}; it must be {_PART}.")
    if kind != "text":
        raise InputError(
            f"{place} has the type {kind!r:.40}; only parts of the type 'text' can be read, so leave it out."
        )
    text = part.get("text")
    if not isinstance(text, str):
        raise InputError(f'{place} has {text!r:.80} as "text"; it must be text.')
    return text
