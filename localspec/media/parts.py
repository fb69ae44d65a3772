"""Parts of a message that are pictures or sounds, in the shapes of the OpenAI chat API, and their marks in its text.

A mark holds the SHA-256 of its file, so messages with other pictures are other messages. Texts of users cannot hold
one: the invisible characters at its ends are taken out of what looks like one.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from localspec.errors import InputError
from localspec.media.source import Audio, Image, Media

#: No program writes this invisible character at both ends of such a word.
_EDGE = "\u2063"
_MARK = re.compile(f"{_EDGE}media:([0-9a-f]{{64}}){_EDGE}")
#: Part types that hold media.
_KINDS = ("image_url", "image", "input_audio", "audio")
_SHAPES = (
    '{"type": "image_url", "image_url": {"url": "data:image/png;base64,…"}}, '
    '{"type": "input_audio", "input_audio": {"data": …, "format": "wav"}}'
)


def mark(media: Media) -> str:
    """Return the text that stands for ``media`` in a message."""
    return f"{_EDGE}media:{media.id}{_EDGE}"


def split_marks(text: str) -> list[str]:
    """Divide ``text`` at its marks: texts and ids by turns, beginning and ending with a text."""
    return _MARK.split(text)


def take_media(messages: Sequence[Any]) -> tuple[Sequence[Any], dict[str, Media]]:
    """Return ``messages`` with marks in place of pictures and sounds, and those by their ids.

    The contents of messages with media become text, as in llama.cpp's server: lines, without a break beside a mark.
    Other messages stay as they are, also malformed ones. Raises :class:`InputError` for a part that cannot be used.
    """
    if isinstance(messages, str | bytes) or not isinstance(messages, Sequence):
        return messages, {}
    found: dict[str, Media] = {}
    taken = [_message(message, f"message {i}", found) for i, message in enumerate(messages)]
    return (taken if found or any(a is not b for a, b in zip(taken, messages, strict=True)) else messages), found


def content_with(media: Sequence[Media], text: str) -> str | list[Any]:
    """Return the content of a message: ``text``, behind ``media`` if there are any."""
    return [*media, {"type": "text", "text": text}] if media else text


def json_part(media: Media) -> dict[str, Any]:
    """Return the part of a message that holds ``media`` in JSON."""
    data = base64.b64encode(media.data).decode()
    if media.kind == "sound":
        return {"type": "input_audio", "input_audio": {"data": data, "format": media.format.lower()}}
    return {"type": "image_url", "image_url": {"url": f"data:image/{media.format.lower()};base64,{data}"}}


def is_media_part(part: Any) -> bool:
    """Return True for a part that holds a picture or a sound."""
    return isinstance(part, Media) or (isinstance(part, Mapping) and part.get("type") in _KINDS)


def part_media(part: Any, place: str) -> Media:
    """Return the media of a part; ``place`` begins an error's message. Raises :class:`InputError`."""
    if isinstance(part, Media):
        return part
    kind = part["type"]
    value = part.get(kind)
    if kind == "image_url" and isinstance(value, Mapping):
        value = value.get("url")
    if kind == "input_audio" and isinstance(value, Mapping):
        return Audio(_decoded(value.get("data"), place), place)
    media = Image if kind in ("image_url", "image") else Audio
    if isinstance(value, media):
        return value
    if isinstance(value, Path | bytes):
        return media(value, place if isinstance(value, bytes) else None)
    if isinstance(value, str) and value.startswith("data:"):
        head, comma, data = value.partition(",")
        if comma and head.endswith(";base64"):
            return media(_decoded(data, place), place)
        raise InputError(
            f"{place} has a data URL that begins {head!r:.60}; it must end with ';base64,' before the data."
        )
    if isinstance(value, str) and value.partition(":")[0] in ("http", "https"):
        raise InputError(f"{place} has the address {value!r:.80}; give the picture itself, as a data URL.")
    raise InputError(f"{place} has {value!r:.60} as {kind!r}; it must be one of {_SHAPES}.")


def _message(message: Any, place: str, found: dict[str, Media]) -> Any:
    content = message.get("content") if isinstance(message, Mapping) else None
    if isinstance(content, str):
        return {**message, "content": _MARK.sub(r"media:\1", content)} if _MARK.search(content) else message
    if isinstance(content, bytes | str) or not isinstance(content, Sequence):
        return message
    if not any(is_media_part(part) for part in content):
        texts = [part.get("text") for part in content if isinstance(part, Mapping)]
        if not any(isinstance(text, str) and _MARK.search(text) for text in texts):
            return message
    elif message.get("role") == "assistant":
        raise InputError(f"{place} is the assistant's and has a picture or a sound; models answer with text alone.")
    return {**message, "content": _content(content, place, found)}


def _content(parts: Sequence[Any], place: str, found: dict[str, Media]) -> str:
    text, beside = "", True
    for number, part in enumerate(parts, start=1):
        here = f"part {number} of {place}"
        if is_media_part(part):
            media = part_media(part, here)
            found[media.id] = media
            text, beside = text + mark(media), True
            continue
        said = part if isinstance(part, str) else part.get("text") if isinstance(part, Mapping) else None
        if not isinstance(said, str) or (isinstance(part, Mapping) and part.get("type") != "text"):
            raise InputError(f'{here} is {part!r:.80}; it must be {{"type": "text", "text": …}} or one of {_SHAPES}.')
        text, beside = text + ("" if beside else "\n") + _MARK.sub(r"media:\1", said), False
    return text


def _decoded(data: Any, place: str) -> bytes:
    if not isinstance(data, str):
        raise InputError(f"{place} has {data!r:.40} as its data; it must be text, in base64.")
    try:
        return base64.b64decode(re.sub(r"\s+", "", data), validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"{place} has data that is no base64; encode the file's bytes.") from None
