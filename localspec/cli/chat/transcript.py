"""The messages of a chat, and the file that keeps them. Depends on no model and no terminal.

Invariant: the messages never end with a question whose answer was given up, and a file is whole or absent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localspec.cli.input.messages import MessageDict, read_messages
from localspec.errors import InputError
from localspec.files import replacing
from localspec.media.parts import content_with, json_part
from localspec.media.source import Media, media_of


@dataclass
class Transcript:
    """Messages in order; a system message, if there is one, is the first."""

    messages: list[MessageDict] = field(default_factory=list)

    def ask(self, text: str, media: Sequence[Media] = ()) -> None:
        """Add a user message, its pictures and sounds first."""
        self.messages.append({"role": "user", "content": content_with(media, text)})

    def answer(self, text: str, **extra: Any) -> None:
        """Add the model's message; ``extra``: its tool calls and the thought before them."""
        self.messages.append({"role": "assistant", "content": text, **extra})

    @property
    def ends_with_text(self) -> bool:
        """True if the last message is the model's, and calls no tools."""
        last = self.messages[-1] if self.messages else {}
        return last.get("role") == "assistant" and not last.get("tool_calls")

    def lengthen(self, text: str, **extra: Any) -> None:
        """Add ``text`` to the last message, the model's; ``extra`` as in :meth:`answer`."""
        last = self.messages[-1]
        self.messages[-1] = {**last, "content": last["content"] + text, **extra}

    def open_calls(self) -> list[str]:
        """Ids of the last tool calls that have no result yet."""
        answered = []
        for message in reversed(self.messages):
            if message["role"] != "tool":
                return [call["id"] for call in message.get("tool_calls", ()) if call["id"] not in answered]
            answered.append(message["tool_call_id"])
        return []

    def result(self, call: str, text: str) -> None:
        """Add the result of a tool call."""
        self.messages.append({"role": "tool", "tool_call_id": call, "content": text})

    def take_back(self) -> str:
        """Remove the last message, a question without an answer, and return its text."""
        return _text(self.messages.pop()["content"])

    def take_question(self) -> tuple[str, list[Media]] | None:
        """Remove and return the question at the end with its media, if the last message is one."""
        if self.messages and self.messages[-1]["role"] == "user":
            content = self.messages.pop()["content"]
            return _text(content), [part for part in content if isinstance(part, Media)]
        return None

    def clear(self) -> None:
        """Remove all but the system message."""
        self.messages = self._system()

    def trim(self, count: int | None = None) -> int:
        """Remove the ``count`` oldest turns, by default the older half, and return how many were removed.

        A turn is a user message and what follows it. The system message stays.
        """
        system = self._system()
        turns = [i for i, m in enumerate(self.messages) if m["role"] == "user"]
        count = min(len(turns), (len(turns) + 1) // 2 if count is None else count)
        if count:
            rest = self.messages[turns[count] :] if count < len(turns) else []
            self.messages = [*system, *rest]
        return count

    def _system(self) -> list[MessageDict]:
        return [m for m in self.messages[:1] if m["role"] == "system"]

    def save(self, name: str, about: dict[str, Any]) -> Path:
        """Write ``{"messages": [...], **about}`` as JSON. Replaces a file only if it is a conversation too."""
        path = file_path(name)
        if path.exists():
            _require_conversation(path)
        text = json.dumps({"messages": self.messages, **about}, ensure_ascii=False, indent=2, default=json_part)
        try:
            with replacing(path) as stream:
                stream.write(f"{text}\n".encode())
        except OSError as error:
            raise InputError(f"{path} cannot be written ({error.strerror}); choose another name.") from None
        return path

    @classmethod
    def load(cls, name: str) -> Transcript:
        """Read a file that :meth:`save` wrote, or a JSON list of messages."""
        return cls(read_messages(str(file_path(name))))


def _text(content: str | list[Any]) -> str:
    """The text of a content, without its media."""
    return (
        content if isinstance(content, str) else "\n".join(part["text"] for part in content if isinstance(part, dict))
    )


def file_path(name: str) -> Path:
    """The path of a name that may be quoted or start with ``~``."""
    quoted = len(name) > 1 and name[0] == name[-1] and name[0] in "\"'"
    return Path(name[1:-1] if quoted else name).expanduser()


def pasted_media(text: str) -> tuple[Media, str] | None:
    """The picture or sound whose path ``text`` begins with, as a terminal pastes it, and the rest of the text.

    The path is the whole text, is quoted, or ends at a space without a backslash. None for any other text.
    """
    quoted = re.match(r"(?:\"([^\"]+)\"|'([^']+)')(?:\s+|$)", text)
    word = re.match(r"((?:\\.|\S)+)(?:\s+|$)", text)
    candidates = [(text, "")]
    if quoted:
        candidates.append((quoted[1] or quoted[2], text[quoted.end() :]))
    if word:
        candidates.append((re.sub(r"\\(.)", r"\1", word[1]), text[word.end() :]))
    for name, rest in candidates:
        with suppress(OSError, ValueError, RuntimeError, InputError):
            path = Path(name.removeprefix("file://")).expanduser()
            if "\n" not in name and path.suffix and path.is_file():
                return media_of(path), rest
    return None


def _require_conversation(path: Path) -> None:
    try:
        read_messages(str(path))
    except InputError:
        raise InputError(f"{path} exists and is no conversation; choose another name.") from None
