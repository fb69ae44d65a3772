"""Separate a chat model's thinking from its answer while it streams.

Gemma 4 writes ``<|channel>thought\\n…<channel|>``, Qwen 3 and others ``<think>…</think>``; each marker is one token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from localspec.protocols import Vocabulary
from localspec.types import Channel

#: Opening and closing marker of each kind.
_MARKERS = (("<|channel>", "<channel|>"), ("<think>", "</think>"))
#: Opening marker that a channel name follows, up to a line end.
_NAMED = "<|channel>"


@dataclass(frozen=True)
class ThinkingMarkers:
    """Marker tokens of a chat model's thinking.

    ``closing`` maps an opening token to its closing token. ``pending`` is the closing token of a thought that the
    prompt leaves open. A channel name follows the opening tokens in ``named``.
    """

    closing: Mapping[int, int] = field(default_factory=dict)
    pending: int | None = None
    named: frozenset[int] = frozenset()


def opens_thought(text: str) -> bool:
    """True if ``text`` ends with the opening of a thought."""
    return any(_ends_with_opening(text, opening) for opening, _ in _MARKERS)


def _ends_with_opening(text: str, opening: str) -> bool:
    return text.rstrip().endswith((opening, f"{opening}thought"))


def find_markers(vocabulary: Vocabulary, prompt: str, continued: str = "") -> ThinkingMarkers:
    """The markers that are single tokens of ``vocabulary``; ``prompt`` is the text before the answer.

    ``continued`` is the part of it that the answer continues, which may be a thought.
    """
    closing, named, pending = dict[int, int](), set[int](), None
    for opening_text, closing_text in _MARKERS:
        ids = [vocabulary.tokenize(marker, add_special=False) for marker in (opening_text, closing_text)]
        if all(len(found) == 1 for found in ids):
            (opening,), (closes,) = ids
            closing[opening] = closes
            if opening_text == _NAMED:
                named.add(opening)
            unclosed = continued.rfind(opening_text) > continued.rfind(closing_text)
            if unclosed or _ends_with_opening(prompt, opening_text):
                pending = closes
    return ThinkingMarkers(closing, pending, frozenset(named))


class ThinkingParser:
    """Parser of one answer: tokens with their text in, the channel and its text without markers out."""

    def __init__(self, vocabulary: Vocabulary, prompt: str, continued: str = "") -> None:
        self.markers = find_markers(vocabulary, prompt, continued)
        self._closing = frozenset(self.markers.closing.values())
        self.channel: Channel = "answer" if self.markers.pending is None else "thought"
        self._skip: Literal["", "name", "newlines"] = ""

    def add(self, token: int, text: str) -> tuple[Channel, str]:
        """The channel of ``token``, and the part of its ``text`` to show."""
        if token in self.markers.closing:
            self.channel = "thought"
            self._skip = "name" if token in self.markers.named else "newlines"
            return self.channel, ""
        if token in self._closing:
            self.channel, self._skip = "answer", "newlines"
            return self.channel, ""
        return self.channel, self._trim(text)

    def _trim(self, text: str) -> str:
        """Drop the channel name with its line end, or the empty lines, after a marker."""
        if self._skip == "name":
            _, newline, text = text.partition("\n")
            if not newline:
                return ""
            self._skip = ""
        elif self._skip == "newlines":
            text = text.lstrip("\n")
            if not text:
                return ""
            self._skip = ""
        return text
