"""DRY's sequence breakers as token sequences, by llama.cpp's rule (``get_overlapping_token_sequences``).

A breaker is a text. A token that contains it breaks alone; one that ends with the beginning of it breaks together with
the tokens of the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from localspec.sampling.noise import Ids

#: llama.cpp's limits: bytes of a breaker, and tokens after its first.
_MAX_BYTES, _MAX_TAIL = 40, 20

Tail = tuple[int, ...]


class BreakerVocabulary(Protocol):
    """What is needed of a tokenizer."""

    n_tokens: int

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool = True) -> list[int]: ...

    def piece(self, token: int) -> bytes: ...


class Breakers:
    """Which tokens begin a breaker, and what must follow them."""

    def __init__(self, n_tokens: int, sequences: dict[int, set[Tail]]) -> None:
        self._tails = sequences
        self._head = np.zeros(n_tokens, np.bool_)
        self._head[list(sequences)] = True
        #: Shape (n_tokens,): whether a token is a breaker by itself.
        self.single = np.zeros(n_tokens, np.bool_)
        self.single[[head for head, tails in sequences.items() if () in tails]] = True

    def since(self, window: Ids) -> int:
        """How many tokens stand at the end of ``window`` after the last breaker that is complete."""
        n = len(window)
        for at in np.flatnonzero(self._head[window])[::-1].tolist():
            after = tuple(window[at + 1 : at + 1 + _MAX_TAIL].tolist())
            whole = [len(tail) for tail in self._tails[int(window[at])] if after[: len(tail)] == tail]
            if whole:
                return n - 1 - int(at) - max(whole)
        return n


def find_breakers(vocabulary: BreakerVocabulary, texts: Sequence[str]) -> Breakers:
    """The breakers ``texts``. Looks at every token's text: about a microsecond each, so keep what it returns."""
    sequences: dict[int, set[Tail]] = {}
    pieces = [vocabulary.piece(token) for token in range(vocabulary.n_tokens)]
    for text in texts:
        breaker = text.encode()[:_MAX_BYTES]
        tails: dict[int, Tail] = {}
        for token, piece in enumerate(pieces):
            for rest in _rests(piece, breaker):
                if rest not in tails:
                    tails[rest] = _tail(vocabulary, breaker[rest:])
                sequences.setdefault(token, set()).add(tails[rest])
    return Breakers(vocabulary.n_tokens, sequences)


def _rests(piece: bytes, breaker: bytes) -> Iterator[int]:
    """Where ``breaker`` goes on after a token: its length if the token contains it, else by each overlap at the end."""
    if breaker in piece:
        yield len(breaker)
    elif breaker[:1] in piece:
        for length in range(1, min(len(piece), len(breaker) - 1) + 1):
            if piece.endswith(breaker[:length]):
                yield length


def _tail(vocabulary: BreakerVocabulary, rest: bytes) -> Tail:
    if not rest:
        return ()
    text = rest.decode("utf-8", errors="ignore")
    return tuple(vocabulary.tokenize(text, add_special=False, parse_special=False)[:_MAX_TAIL])
