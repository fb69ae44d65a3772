"""Tells a chat model's thinking from its answer while it streams.

Gemma 4 writes ``<|channel>thought\\n…<channel|>``, Qwen 3 and others ``<think>…</think>``; each marker is one token.
"""

from __future__ import annotations

from localspec.protocols import Vocabulary
from localspec.types import Channel

_MARKERS = (("<|channel>", "<channel|>"), ("<think>", "</think>"))


class Channels:
    """Feed tokens with their text; get the channel that it belongs to and the text without markers.

    ``pairs``: token that opens a thought → token that closes it. ``inside``: the token that closes the thought in which
    the prompt ends, if it does.
    """

    def __init__(self, vocabulary: Vocabulary, prompt: str) -> None:
        self.pairs: dict[int, int] = {}
        self.inside: int | None = None
        self._open: set[int] = set()
        self._close: set[int] = set()
        self._named: set[int] = set()
        self.channel: Channel = "answer"
        self._skip = ""
        for opening, closing in _MARKERS:
            ids = [vocabulary.tokenize(marker, add_special=False) for marker in (opening, closing)]
            if all(len(found) == 1 for found in ids):
                self._open.add(ids[0][0])
                self._close.add(ids[1][0])
                self.pairs[ids[0][0]] = ids[1][0]
                if opening == "<|channel>":
                    self._named.add(ids[0][0])
                if prompt.rstrip().endswith((opening, f"{opening}thought")):
                    self.channel, self.inside = "thought", ids[1][0]

    def add(self, token: int, text: str) -> tuple[Channel, str]:
        """The channel of ``text``, which came with ``token``, and what of it to show."""
        if token in self._open:
            self.channel = "thought"
            self._skip = "name" if token in self._named else "space"
            return self.channel, ""
        if token in self._close:
            self.channel, self._skip = "answer", "space"
            return self.channel, ""
        return self.channel, self._trim(text)

    def _trim(self, text: str) -> str:
        """Drop the channel's name up to its line end, or the blank lines after a marker."""
        if self._skip == "name":
            _, newline, text = text.partition("\n")
            if not newline:
                return ""
            self._skip = ""
        elif self._skip == "space":
            text = text.lstrip("\n")
            if not text:
                return ""
            self._skip = ""
        return text
