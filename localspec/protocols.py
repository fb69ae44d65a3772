"""What the loop needs of a backend. Imports nothing of llama.cpp.

A context owns one sequence: ``tokens`` is exactly what its cache holds, position *i* holds ``tokens[i]``.
Rows that :meth:`Context.decode` returns are views that the next decode overwrites.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
Outputs = Literal["all", "last", "none"] | int
TokenArray = NDArray[np.int32]
Mask = NDArray[np.bool_]


def output_rows(outputs: Outputs, n: int) -> int:
    """How many of ``n`` rows ``outputs`` asks for."""
    return outputs if isinstance(outputs, int) else {"all": n, "last": 1, "none": 0}[outputs]


def common_length(a: Sequence[int], b: Sequence[int], start: int = 0) -> int:
    """Length of the common beginning of ``a`` and ``b``, known to be at least ``start``."""
    end = min(len(a), len(b))
    if a[start:end] == b[start:end]:
        return end
    return next((i for i in range(start, end) if a[i] != b[i]), end)


class Vocabulary(Protocol):
    """Text to ids and back."""

    n_tokens: int

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool = True) -> list[int]:
        """Ids of ``text``; ``add_special`` puts the model's BOS in front where the model wants it."""

    def piece(self, token: int) -> bytes:
        """The bytes that ``token`` adds to the text; ``b""`` for control tokens."""

    def is_end(self, token: int) -> bool:
        """Whether ``token`` ends an answer (EOS, end of turn, …)."""


class Context(Protocol):
    """One model's cache of one sequence."""

    tokens: list[int]
    n_ctx: int
    decode_s: float

    def decode(self, tokens: Sequence[int], outputs: Outputs = "all") -> Rows:
        """Append ``tokens`` (at most the batch size) in one pass.

        Returns the logits, shape (n, n_vocab): all n rows, only the last (1, n_vocab), none (0, n_vocab), or as many
        of the last as ``outputs`` says.
        """

    def hidden(self) -> Rows:
        """Hidden rows of the outputs of the last decode, shape (n, n_embd)."""

    def rewind(self, length: int) -> None:
        """Forget everything from position ``length`` on, or all of it: look at ``tokens``."""

    def identity(self) -> str:
        """What must be the same, besides the model, for a saved state to be good."""

    def state(self) -> bytes:
        """The cache as bytes. Raises :class:`BackendError` where that cannot be."""

    def restore(self, state: bytes, tokens: Sequence[int]) -> None:
        """Replace the cache by a ``state`` that holds ``tokens``. Raises :class:`BackendError`, and then is empty."""

    def close(self) -> None:
        """Free the context. May be called twice."""


class MtpContext(Protocol):
    """A drafter context that reads another context's cache and has none of its own."""

    decode_s: float

    def step(self, token: int, position: int, hidden: NDArray[Any]) -> Rows:
        """Logits (1, n_vocab) for what follows ``token``, given the (n_embd,) hidden row before it."""

    def hidden(self) -> Rows:
        """The hidden row (1, n_embd) of the last step, input of the next."""

    def close(self) -> None:
        """Free the context. May be called twice."""


class Constraint(Protocol):
    """Tokens that a structured answer allows next: the interface between a grammar and the sampler.

    It depends on the tokens alone, so it is the same with any drafter and with none. ``tokens`` are the prompt and what
    was generated, a list that only grows while one answer is made. ``ahead`` are draft tokens that follow them. One
    constraint serves one answer and counts from its first token.
    """

    def allowed(self, tokens: Sequence[int], ahead: Sequence[int] = ()) -> Mask:
        """Shape (n_vocab,): whether each token may follow. Exactly one where :meth:`forced` has something to say."""

    def fits(self, tokens: Sequence[int], ahead: Sequence[int], token: int) -> bool:
        """Whether the answer can still be ended within its budget once the allowed ``token`` follows."""

    def ending_token(self, tokens: Sequence[int], ahead: Sequence[int]) -> int:
        """A token that always fits: the next one on the way to the nearest end of the answer."""

    def forced(self, tokens: Sequence[int], ahead: Sequence[int] = ()) -> tuple[int, ...]:
        """The tokens that must follow, one legal token each; ``()`` where there is a choice."""

    def legal(self, tokens: Sequence[int], draft: Sequence[int]) -> int:
        """How many tokens at the beginning of ``draft`` the constraint allows."""
