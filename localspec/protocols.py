"""Interfaces of a backend and of a grammar. Imports nothing of llama.cpp.

A context owns one sequence: its cache holds exactly ``tokens``, ``tokens[i]`` at position *i*. Cells of pictures and
sounds are negative entries (:mod:`localspec.media.cells`). The rows that
:meth:`Context.decode` returns are views that the next decode overwrites.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
Outputs = Literal["all", "last", "none"] | int
TokenArray = NDArray[np.int32]
Mask = NDArray[np.bool_]

#: The ``rollback`` of a context that can take back any number of tokens.
UNBOUNDED = 2**31 - 1
#: Texts of tokens that structure a chat, though tokenizers find some of them in plain text, too.
MARKER = re.compile(r"<\|.*>|<.*\|>|</?(?:think|tool_call|tool_response)>", re.DOTALL)


def output_rows(outputs: Outputs, n: int) -> int:
    """Number of rows that ``outputs`` selects of ``n``."""
    return outputs if isinstance(outputs, int) else {"all": n, "last": 1, "none": 0}[outputs]


def common_length(a: Sequence[int], b: Sequence[int], start: int = 0) -> int:
    """Length of the common prefix of ``a`` and ``b``, known to be at least ``start``."""
    if type(a) is not type(b):
        a, b = list(a), list(b)
    end = min(len(a), len(b))
    if a[start:end] == b[start:end]:
        return end
    step = 1
    while a[start : start + step] == b[start : start + step]:
        start, step = start + step, 2 * step
    while step > 1:  # they differ within the next ``step`` tokens
        step = (step + 1) // 2
        if a[start : start + step] == b[start : start + step]:
            start += step
    return start


class FimTokens(NamedTuple):
    """Tokens of fill-in-the-middle: before the text, before the text behind the gap, before the answer.

    ``repo`` and ``file`` name a repository and a file, -1 where a model has none.
    """

    prefix: int
    suffix: int
    middle: int
    repo: int = -1
    file: int = -1


class Vocabulary(Protocol):
    """Text to ids and back."""

    n_tokens: int

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool = True) -> list[int]:
        """Return the ids of ``text``. ``add_special`` adds the BOS of models that have one in front."""

    def piece(self, token: int) -> bytes:
        """Return the bytes that ``token`` adds to the text; ``b""`` for control tokens."""

    def is_end(self, token: int) -> bool:
        """Return True if ``token`` ends an answer (EOS, end of turn, …)."""


class Context(Protocol):
    """One model's cache of one sequence.

    ``rollback``: how many tokens behind the first of the last pass can be taken back without a checkpoint.
    """

    tokens: list[int]
    n_ctx: int
    decode_s: float
    rollback: int

    def decode(self, tokens: Sequence[int], outputs: Outputs = "all") -> Rows:
        """Append ``tokens`` (at most the batch size) in one pass.

        Returns logits, shape (rows, n_vocab): of all tokens, of the last one, of none, or of the last ``outputs`` ones.
        """

    def hidden(self) -> Rows:
        """Return the hidden rows of the outputs of the last decode, shape (rows, n_embd)."""

    def rewind(self, length: int) -> None:
        """Drop the cache from position ``length`` on, or more where that is impossible: read ``tokens`` after."""

    def reach(self, length: int) -> int:
        """Return how many tokens a rewind to ``length`` would leave."""

    def mark(self, *, brief: bool = False) -> None:
        """Make a checkpoint here, to which a rewind can return; ``brief``: until the next such one.

        Nothing where every token can be taken back.
        """

    def identity(self) -> str:
        """Describe the build and settings that a saved state depends on, besides the model."""

    def state(self) -> bytes:
        """Return the cache as bytes. Raises :class:`BackendError` where the cache cannot be saved."""

    def restore(self, state: bytes, tokens: Sequence[int]) -> None:
        """Replace the cache by a ``state`` of ``tokens``. Raises :class:`BackendError`, and is empty then."""

    def close(self) -> None:
        """Free the context. May be called twice."""


@runtime_checkable
class MediaContext(Protocol):
    """A context that also decodes pictures and sounds."""

    def decode_media(self, cells: Sequence[int], embeddings: Rows, *, causal: bool) -> None:
        """Append ``cells`` of a picture or sound (see :mod:`localspec.media.cells`) with their ``embeddings``.

        Those that are not ``causal`` see one another, and are decoded in one pass.
        """


class Piece(Protocol):
    """A part of what a projector makes of a picture or sound: ``tokens`` of text, or ``cells`` to encode."""

    tokens: tuple[int, ...]
    cells: int
    causal: bool

    def encode(self) -> Rows:
        """Return the embeddings of the cells, shape (cells, n_embd)."""


class Projector(Protocol):
    """A model's eyes and ears. Any thread may call it."""

    def picture(self, pixels: NDArray[np.uint8]) -> Sequence[Piece]:
        """Divide a picture, shape (height, width, 3), into pieces."""

    def sound(self, data: bytes) -> Sequence[Piece]:
        """Divide a sound, a checked file, into pieces."""

    def close(self) -> None:
        """Free it. May be called twice."""


class Sequences(Protocol):
    """Several sequences in one model's cache. Each has a :class:`Context` that decodes it alone."""

    def decode(self, first: int, width: int, passes: Sequence[tuple[Sequence[int], Outputs] | None]) -> list[Rows]:
        """Decode the ``passes`` of consecutive sequences from ``first`` on at once, each in ``width`` rows.

        Shorter passes are padded, and None is padding alone; none of it stays cached. Returns the rows that each
        pass's outputs select.
        """

    def copy(self, source: int, target: int, length: int) -> None:
        """Replace the cache of ``target`` by the first ``length`` tokens of ``source``, or empty it."""


class MtpContext(Protocol):
    """Interface of a drafter's context that reads another context's cache and has none of its own."""

    decode_s: float

    def step(self, token: int, position: int, hidden: NDArray[Any]) -> Rows:
        """Return the logits (1, n_vocab) after ``token``, given the hidden row (n_embd,) before it."""

    def hidden(self) -> Rows:
        """Return the hidden row (1, n_embd) of the last step, input of the next."""

    def close(self) -> None:
        """Free the context. May be called twice."""


class HeadContext(Protocol):
    """Interface of prediction heads: they read the target's hidden rows, and have a cache of their own.

    ``name``: of the drafter, ``mtp`` or ``eagle3``.
    ``heads``: of a chain, each with a token to predict; 1: one head predicts any number, one after another.
    """

    name: str
    decode_s: float
    heads: int

    @property
    def available(self) -> tuple[int, int]:
        """The positions of which the target's hidden rows are there: the first, and the one behind the last."""

    @property
    def held(self) -> tuple[int, int]:
        """The positions whose cells were read, likewise."""

    def read(self, tokens: Sequence[int], start: int, *, goes_on: bool = True) -> Rows:
        """Read ``tokens`` from position ``start`` on, in place of what is there; returns the last one's logits.

        The hidden row before each of them is available. Not ``goes_on``: the cells before them are forgotten as well.
        """

    def step(self, tokens: Sequence[int], hidden: Rows) -> Rows:
        """Return the logits (1, n_vocab) after ``tokens``: the last one that was read, and drafted ones.

        ``hidden``: the heads' hidden row for each drafted one, shape (drafted, n_embd).
        """

    def hidden(self) -> Rows:
        """Return the hidden row (1, n_embd) of the last token."""

    def close(self) -> None:
        """Free the context. May be called twice."""


class Constraint(Protocol):
    """Interface of a grammar to the sampler: tokens that a structured answer allows next.

    It depends on the tokens alone, so drafting does not change it. ``tokens``: the prompt and the generated tokens, a
    list that only grows. ``ahead``: draft tokens after them. One constraint serves one answer.
    """

    def allowed(self, tokens: Sequence[int], ahead: Sequence[int] = ()) -> Mask:
        """Return a mask (n_vocab,), True for tokens that may follow; exactly one where :meth:`forced` returns any."""

    def fits(self, tokens: Sequence[int], ahead: Sequence[int], token: int) -> bool:
        """Return True if the answer can end within its budget after the allowed ``token``."""

    def ending_token(self, tokens: Sequence[int], ahead: Sequence[int]) -> int:
        """Return the next token on the shortest way to an end of the answer, which always fits."""

    def forced(self, tokens: Sequence[int], ahead: Sequence[int] = ()) -> tuple[int, ...]:
        """Return the tokens that must follow, the only legal ones; ``()`` where there is a choice."""

    def legal(self, tokens: Sequence[int], draft: Sequence[int]) -> int:
        """Return how many tokens at the beginning of ``draft`` the constraint allows."""
