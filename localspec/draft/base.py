"""Interface of the drafters, and the data that they share with the loop.

A drafter changes the speed of decoding, never its output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from localspec.media.cells import has_cells, text_tokens
from localspec.protocols import common_length
from localspec.sampling import Row, Sampler


@dataclass
class Prefix:
    """The text so far, shared by the loop and its drafters.

    ``tokens``: the prompt and the generated tokens. All but the last are in the target's cache. ``hidden``: the
    target's hidden row (n_embd,) at the second last token, if an assistant needs it. ``revision``: replaced by a new
    object when ``tokens`` change in any way other than by appending.
    """

    tokens: list[int]
    sampler: Sampler
    hidden: NDArray[Any] | None = None
    revision: object = field(default_factory=object)
    _text: list[int] | None = field(default=None, init=False, repr=False)
    #: Cells of pictures and sounds among the tokens, all of which the prompt has.
    _cells: int = field(default=0, init=False, repr=False)

    @property
    def text(self) -> list[int]:
        """``tokens`` without pictures and sounds: the same list where there are none. It only grows, like them."""
        if self._text is None:
            self._text = text_tokens(self.tokens) if has_cells(self.tokens) else self.tokens
            self._cells = len(self.tokens) - len(self._text)
        if self._text is not self.tokens:
            self._text += self.tokens[len(self._text) + self._cells :]
        return self._text


class Guess(NamedTuple):
    """A draft token, and the drafter's probability (0 to 1) that the target chooses it."""

    token: int
    confidence: float


@dataclass(frozen=True)
class Draft:
    """Draft ``tokens`` after a prefix; for each, the name of its drafter and the drafter's confidence.

    The last ``padding`` tokens are no guesses. They widen the pass to a width that costs less. ``gains``: the seconds
    that each token is expected to save, where the control knows them.
    """

    tokens: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    confidences: tuple[float, ...] = ()
    padding: int = 0
    gains: tuple[float, ...] = ()

    def cut(self, length: int) -> Draft:
        """Return the first ``length`` tokens."""
        cut = len(self.tokens) - length
        if cut <= 0:
            return self
        padding = max(0, self.padding - cut)
        return Draft(self.tokens[:length], self.names[:length], self.confidences[:length], padding, self.gains[:length])

    @property
    def drafter(self) -> str:
        """Name of the drafter of the first token; ``none`` for an empty draft."""
        return self.names[0] if self.names else "none"

    @classmethod
    def from_guesses(cls, name: str, guesses: Sequence[Guess]) -> Draft:
        """Build a draft from the ``guesses`` of one drafter."""
        return cls(tuple(g.token for g in guesses), (name,) * len(guesses), tuple(g.confidence for g in guesses))


class Drafter(Protocol):
    """Proposes draft tokens."""

    @property
    def name(self) -> str:
        """Name in statistics: ``ngram``, ``model``, ``mtp``."""

    @property
    def free(self) -> bool:
        """True if the drafter proposes without decoding."""

    @property
    def decode_s(self) -> float:
        """Seconds spent inside llama.cpp since the drafter was made."""

    def propose(self, prefix: Prefix, ahead: Sequence[int] = ()) -> Iterator[Guess]:
        """Yield guesses that follow ``prefix`` and the draft tokens ``ahead``, each after those before it.

        A guess is computed when it is requested. The iterator ends where the drafter has no guess.
        """

    def lag(self, prefix: Prefix, ahead: Sequence[int] = ()) -> int:
        """Count the tokens of ``prefix`` and ``ahead`` to decode before the next guess; 0 for a lookup."""

    def observe(self, prefix: Prefix) -> None:
        """Read the text so far. The loop calls this after the prefill and when the text is emptied."""

    def close(self) -> None:
        """Free all resources. May be called twice."""


class KnownPrefix:
    """Finds the common prefix of a drafter's tokens and the text; compares only tokens that may differ.

    The text is :attr:`Prefix.text`: a drafter without the target's cache knows nothing of pictures and sounds.
    """

    def __init__(self) -> None:
        self._revision: object = None
        self._length = 0

    def shared(self, own: list[int], prefix: Prefix) -> int:
        """Return the length of the common prefix of ``own`` and ``prefix.text``."""
        start = self._length if prefix.revision is self._revision else 0
        length = common_length(own, prefix.text, min(start, len(own)))
        self._revision, self._length = prefix.revision, length
        return length


def guess_from_row(prefix: Prefix, row: Row, draft: Sequence[int]) -> Guess:
    """Return the guess of a drafter with the logits ``row`` (n_vocab,) after ``prefix`` and ``draft``."""
    sampler = prefix.sampler
    adjusted = sampler.adjust(row, prefix.tokens, draft)
    token = sampler.choose(adjusted, len(prefix.tokens) + len(draft))
    return Guess(token, sampler.confidence(adjusted, token))
