"""DRY's sequence breakers as token sequences, by llama.cpp's rule (``get_overlapping_token_sequences``).

A breaker is a text. A token that contains it is a breaker alone. A token that ends with a prefix of it is a breaker
together with the tokens of the remaining text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from localspec.sampling.noise import Ids

#: Bytes of a breaker that are read, llama.cpp's limit.
_MAX_BYTES = 40
#: Tokens that may follow the first token of a breaker, llama.cpp's limit.
_MAX_TAIL = 20

Tail = tuple[int, ...]


class BreakerVocabulary(Protocol):
    """Part of a vocabulary that the search for sequence breakers reads."""

    n_tokens: int

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool = True) -> list[int]: ...

    def piece(self, token: int) -> bytes: ...


class SequenceBreakers:
    """First tokens of the breakers, each with the tails that complete it; the tail ``()`` is a breaker alone."""

    def __init__(self, n_tokens: int, tails: dict[int, set[Tail]]) -> None:
        self._tails = tails
        self._first = np.zeros(n_tokens, np.bool_)
        self._first[list(tails)] = True
        #: Shape (n_tokens,): True for tokens that are a breaker alone.
        self.single = np.zeros(n_tokens, np.bool_)
        self.single[[token for token, found in tails.items() if () in found]] = True

    def tokens_since(self, window: Ids) -> int:
        """Number of tokens at the end of ``window`` after the last complete breaker; all of them without one."""
        n = len(window)
        for at in np.flatnonzero(self._first[window])[::-1].tolist():
            after = tuple(window[at + 1 : at + 1 + _MAX_TAIL].tolist())
            complete = [len(tail) for tail in self._tails[int(window[at])] if after[: len(tail)] == tail]
            if complete:
                return n - 1 - int(at) - max(complete)
        return n


def find_sequence_breakers(vocabulary: BreakerVocabulary, texts: Sequence[str]) -> SequenceBreakers:
    """Find the token sequences of the breakers ``texts``.

    Reads every token's text, about 1 µs each; callers cache the result.
    """
    found: dict[int, set[Tail]] = {}
    pieces = [vocabulary.piece(token) for token in range(vocabulary.n_tokens)]
    for text in texts:
        breaker = text.encode()[:_MAX_BYTES]
        tails: dict[int, Tail] = {}
        for token, piece in enumerate(pieces):
            for start in _tail_starts(piece, breaker):
                if start not in tails:
                    tails[start] = _tail(vocabulary, breaker[start:])
                found.setdefault(token, set()).add(tails[start])
    return SequenceBreakers(vocabulary.n_tokens, found)


def _tail_starts(piece: bytes, breaker: bytes) -> Iterator[int]:
    """Byte positions in ``breaker`` from which a tail must follow ``piece``: its length if ``piece`` contains it,
    else the length of each overlap of ``piece``'s end with its beginning."""
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
