"""The drafter protocol: two verbs. A drafter is free to be wrong; it cannot change the text, only the time it takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

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


class Guess(NamedTuple):
    """A ``token`` that may follow, and how ``sure`` its drafter is that the target says the same (0 … 1)."""

    token: int
    sure: float


@dataclass(frozen=True)
class Draft:
    """Proposed ``tokens`` to follow a prefix, and for each the name of who proposed it and how sure it was.

    ``padding`` of them, the last, are no guesses: they make the pass as wide as a width that costs less.
    """

    tokens: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    sure: tuple[float, ...] = ()
    padding: int = 0

    @property
    def drafter(self) -> str:
        """Who proposed the first token; ``none`` when nobody did."""
        return self.names[0] if self.names else "none"

    @classmethod
    def by(cls, name: str, guesses: Sequence[Guess]) -> Draft:
        """All of one drafter's."""
        return cls(tuple(g.token for g in guesses), (name,) * len(guesses), tuple(g.sure for g in guesses))


class Drafter(Protocol):
    """Proposes what comes next, and observes what came."""

    @property
    def name(self) -> str:
        """``ngram``, ``model``, ``mtp``: the name in statistics."""

    @property
    def free(self) -> bool:
        """Whether it proposes without decoding anything."""

    @property
    def decode_s(self) -> float:
        """Seconds spent inside llama.cpp since it was made."""

    def propose(self, prefix: Prefix, ahead: Sequence[int] = ()) -> Iterator[Guess]:
        """Guess after guess at what follows ``prefix`` and the draft tokens ``ahead``, for as long as it is asked.

        Each is made when it is asked for, and follows those before it. It ends where the drafter has nothing to say.
        """

    def lag(self, prefix: Prefix, ahead: Sequence[int] = ()) -> int:
        """How many tokens of ``prefix`` and ``ahead`` it has to decode before its next guess (0: none, as a lookup)."""

    def observe(self, prefix: Prefix) -> None:
        """Take note of the text so far: after the prefill, and when it is emptied."""

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


def look_ahead(prefix: Prefix, row: Row, draft: Sequence[int]) -> Guess:
    """What a drafter with logits ``row`` says after ``prefix`` and ``draft``."""
    sampler = prefix.sampler
    shaped = sampler.shape(row, prefix.tokens, draft)
    token = sampler.choose(shaped, len(prefix.tokens) + len(draft))
    return Guess(token, sampler.confidence(shaped, token))


def common_length(a: list[int], b: list[int], start: int = 0) -> int:
    """Length of the common beginning of ``a`` and ``b``, known to be at least ``start``."""
    end = min(len(a), len(b))
    if a[start:end] == b[start:end]:
        return end
    for i in range(start, end):
        if a[i] != b[i]:
            return i
    return end
