"""Shared vocabularies: a token id must stand for one text in target and drafter. llama.cpp's rule.

The rule is that of ``common_speculative_are_compatible`` (``common/speculative.cpp``): tokenizers of one type, the same
tokens at the beginning and end of a text, sizes that differ by padding at most, and the same text for each id except
the first few.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

#: Tokens by which the sizes may differ: padding to a multiple of 64 or 128. llama.cpp's value.
MAX_SIZE_DIFFERENCE = 128
#: First token that is compared; those before it are special tokens. llama.cpp's value.
FIRST_COMPARED = 5


class ComparedVocabulary(Protocol):
    """A vocabulary, of a file or of a loaded model, as the rule reads it.

    A trimmed drafter has some tokens of a whole vocabulary: ``ids`` are their ids there, and ``size`` is its size.
    """

    @property
    def type(self) -> object: ...

    @property
    def size(self) -> int: ...

    @property
    def ids(self) -> Sequence[int]: ...

    @property
    def bos(self) -> int | None:
        """Id in the whole vocabulary of the token that begins every text, None if none is added."""

    @property
    def eos(self) -> int | None:
        """Id in the whole vocabulary of the token that ends every text, None if none is added."""

    def texts(self) -> Sequence[bytes]:
        """Text of each token, in the order of ``ids``."""


def find_mismatch(target: ComparedVocabulary, drafter: ComparedVocabulary) -> str | None:
    """Reason why the drafter's ids are not the target's, None if they are. Texts are compared last."""
    return settings_mismatch(target, drafter) or text_mismatch(target, drafter)


def settings_mismatch(target: ComparedVocabulary, drafter: ComparedVocabulary) -> str | None:
    """The part of :func:`find_mismatch` that does not compare texts."""
    if target.type != drafter.type:
        return f"their tokenizers are of different types ({target.type} and {drafter.type})"
    if (target.bos, target.eos) != (drafter.bos, drafter.eos):
        return "they begin or end texts with different tokens"
    if abs(target.size - drafter.size) > MAX_SIZE_DIFFERENCE or not target.size or not drafter.size:
        return f"their vocabularies have {target.size} and {drafter.size} tokens"
    return None


def text_mismatch(target: ComparedVocabulary, drafter: ComparedVocabulary) -> str | None:
    """The first token whose texts differ, as a sentence."""
    texts = target.texts()
    for token, text in zip(drafter.ids, drafter.texts(), strict=False):
        if FIRST_COMPARED <= token < len(texts) and texts[token] != text:
            return f"token {token} is {texts[token]!r} in one and {text!r} in the other"
    return None
