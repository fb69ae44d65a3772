"""The drafter protocol: two verbs. A drafter is free to be wrong; it cannot change the text, only the time it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from localspec.sampling import Row, Sampler


@dataclass
class Prefix:
    """The text so far, as the loop and its drafters share it.

    ``tokens`` are the prompt and what was generated; all but the last are in the target's cache. ``hidden`` is the
    target's hidden row (n_embd,) at the second last token, where an assistant needs it. ``revision`` changes whenever
    tokens changed in any way other than by appending.
    """

    tokens: list[int]
    sampler: Sampler
    hidden: NDArray[Any] | None = None
    revision: object = field(default_factory=object)


@dataclass(frozen=True)
class Draft:
    """Proposed ``tokens`` to follow a prefix, and the name of who proposed them."""

    tokens: tuple[int, ...] = ()
    drafter: str = "none"


class Drafter(Protocol):
    """Proposes what comes next, and observes what came."""

    @property
    def name(self) -> str:
        """``ngram``, ``model``, ``mtp``: the name in statistics."""

    @property
    def default_max(self) -> int:
        """Draft tokens a step when the user sets no limit."""

    @property
    def decode_s(self) -> float:
        """Seconds spent inside llama.cpp since it was made."""

    def propose(self, prefix: Prefix, limit: int) -> Draft:
        """At most ``limit`` (≥ 1) tokens to follow ``prefix``; fewer, or none, where it is not confident."""

    def observe(self, prefix: Prefix) -> None:
        """Take note of the text so far: after the prefill, after every step, and when it is emptied."""

    def close(self) -> None:
        """Free what the drafter holds. May be called twice."""


class KnownPrefix:
    """Finds how much of a drafter's own tokens a prefix still shares, looking only at what may differ."""

    def __init__(self) -> None:
        self._revision: object = None
        self._sure = 0

    def shared(self, own: list[int], prefix: Prefix) -> int:
        """Length of the common beginning of ``own`` and ``prefix.tokens``."""
        start = self._sure if prefix.revision is self._revision else 0
        at = common_length(own, prefix.tokens, min(start, len(own)))
        self._revision, self._sure = prefix.revision, at
        return at


def look_ahead(prefix: Prefix, row: Row, draft: Sequence[int]) -> tuple[int, float]:
    """What a drafter with logits ``row`` says after ``prefix`` and ``draft``, and how sure it is (0 … 1)."""
    sampler = prefix.sampler
    shaped = sampler.shape(row, prefix.tokens, draft)
    token = sampler.choose(shaped, len(prefix.tokens) + len(draft))
    return token, sampler.confidence(shaped, token)


def common_length(a: list[int], b: list[int], start: int = 0) -> int:
    """Length of the common beginning of ``a`` and ``b``, known to be at least ``start``."""
    end = min(len(a), len(b))
    if a[start:end] == b[start:end]:
        return end
    for i in range(start, end):
        if a[i] != b[i]:
            return i
    return end
