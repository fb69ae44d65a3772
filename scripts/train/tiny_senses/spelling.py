"""Sentences as rows of soft tokens: which word stands at which place.

The frozen target reads a sentence that is spelled token by token, and repeats it. A picture spells it in blocks of
4 × 4 soft tokens, again and again; a sound spells it once, in the silence behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from scripts.train.tiny_senses.scenes import all_sentences

#: Soft tokens that spell a sentence: a block of a picture, a silence behind a sound.
BLOCK, TAIL = 16, 12


@dataclass(frozen=True)
class Spelling:
    """``ids``: target's tokens by word; the last word is nothing. ``sentences``: words of each sentence."""

    ids: list[int]
    sentences: dict[str, list[int]]

    @property
    def nothing(self) -> int:
        return len(self.ids)

    def words(self, sentence: str, places: int) -> list[int]:
        """Return the word at each of ``places`` places."""
        found = self.sentences[sentence]
        return [*found, *[self.nothing] * (places - len(found))]


def make_spelling(tokenizer: Any) -> Spelling:
    """Return the words of every sentence that the scenes can have, as the target's tokenizer cuts them."""
    pictures, sounds = all_sentences()
    cut = {text: tokenizer.encode(text, add_special_tokens=False) for text in (*pictures, *sounds)}
    if max(len(cut[text]) for text in pictures) > BLOCK or max(len(cut[text]) for text in sounds) > TAIL:
        raise ValueError("a sentence has more tokens than places")
    ids = sorted({token for tokens in cut.values() for token in tokens})
    number = {token: index for index, token in enumerate(ids)}
    return Spelling(ids, {text: [number[token] for token in tokens] for text, tokens in cut.items()})


def places_of_picture(across: int, down: int) -> torch.Tensor:
    """Return the place in its block of every soft token, row by row: shape (across · down,)."""
    x, y = torch.arange(across) % 4, torch.arange(down) % 4
    return (x[None, :] + 4 * y[:, None]).flatten()
