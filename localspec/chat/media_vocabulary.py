"""A vocabulary that knows the pictures and sounds of one prompt: their marks in a text become their entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from localspec.chat.plain_contents import PromptVocabulary
from localspec.media.parts import split_marks


class MediaVocabulary:
    """``vocabulary`` with ``entries`` for media, by their ids. Text beside a mark is tokenized by itself."""

    def __init__(self, vocabulary: PromptVocabulary, entries: Mapping[str, Sequence[int]]) -> None:
        self._vocabulary, self._entries = vocabulary, entries
        self.n_tokens, self.add_bos, self.bos = vocabulary.n_tokens, vocabulary.add_bos, vocabulary.bos
        self.fim = vocabulary.fim

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool = True) -> list[int]:
        found: list[int] = []
        for i, part in enumerate(split_marks(text)):
            if i % 2 and part in self._entries:
                found += self._entries[part]
            elif part:
                special = add_special and not found
                found += self._vocabulary.tokenize(part, add_special=special, parse_special=parse_special)
        return found

    def piece(self, token: int) -> bytes:
        return b"" if token < 0 else self._vocabulary.piece(token)

    def is_end(self, token: int) -> bool:
        return token >= 0 and self._vocabulary.is_end(token)

    def control_text(self, token: int) -> str | None:
        return None if token < 0 else self._vocabulary.control_text(token)
