"""Caches of earlier conversations, kept in memory when their slot is needed for another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from localspec.errors import BackendError
from localspec.generation.pair import Pair
from localspec.generation.prefill import CHUNK
from localspec.protocols import common_length

#: Caches of fewer tokens are not kept.
_LEAST = 64


@dataclass
class Kept:
    """A saved cache of ``tokens``. ``whole``: it cannot be rewound, as without the cells before a sliding window."""

    tokens: list[int]
    state: bytes
    prefilled: int
    whole: bool = False


class KeptCaches:
    """Caches of at most ``most`` bytes together. What was used least recently goes first."""

    def __init__(self, most: int = 0) -> None:
        self._most = most
        self._kept: list[Kept] = []

    def keep(self, pair: Pair) -> None:
        """Save the cache of a pair, unless one that is kept begins with it."""
        tokens = pair.target.tokens
        if self._most == 0 or len(tokens) < _LEAST:
            return
        known = [common_length(kept.tokens, tokens) for kept in self._kept]
        if len(tokens) in known:
            return
        try:
            state = pair.target.state()
        except BackendError:  # of a kind that cannot be saved, or too little memory
            return
        self._kept = [kept for kept, n in zip(self._kept, known, strict=True) if n < len(kept.tokens)]
        self._kept.append(Kept(list(tokens), state, pair.prefill.prefilled))
        while sum(len(kept.state) for kept in self._kept) > self._most:
            del self._kept[0]

    def exchange(self, pair: Pair, prompt: Sequence[int]) -> None:
        """Bring the cache that ``prompt`` can use most of, and keep the one that it replaces."""
        known = pair.prefill.reusable(pair.target.tokens, prompt)
        if len(pair.target.tokens) - known >= CHUNK:
            self.keep(pair)
        self.restore(pair, prompt, known)

    def restore(self, pair: Pair, prompt: Sequence[int], better_than: int) -> bool:
        """Restore the cache of which most can be reused for ``prompt``, if that is more than ``better_than`` tokens."""
        reusable = {
            i: n
            for i, kept in enumerate(self._kept)
            if (n := pair.prefill.reusable(kept.tokens, prompt, kept.prefilled)) > better_than
            and not (kept.whole and n < len(kept.tokens))
        }
        if not reusable:
            return False
        i = max(reusable, key=reusable.__getitem__)
        kept = self._kept.pop(i)
        self._kept.append(kept)
        try:
            pair.target.restore(kept.state, kept.tokens)
        except BackendError:
            self._kept.pop()
            return False
        pair.prefill.prefilled = kept.prefilled
        pair.target.rewind(reusable[i])
        kept.whole = len(pair.target.tokens) < reusable[i]
        return not kept.whole

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
