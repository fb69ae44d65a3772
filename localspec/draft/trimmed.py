"""Context of a trimmed drafter, in the target's vocabulary: it proposes the kept tokens, and those of the text.

Every token can be decoded, so the cache holds the same tokens as the text, position by position. The head computes
logits of the kept tokens. Rare tokens of a text often return, so those that are not kept get logits as well: a few rows
of the whole head times the head's input. All others are −inf. Rows are as long as the vocabulary, because noise,
penalties and masks use the target's ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localspec.protocols import Context, Outputs, Rows

#: Most tokens of the text that get logits without being kept, the latest: a core multiplies their rows in 0.1 ms.
_MOST = 512


class TrimmedContext:
    """A :class:`Context` around ``inner``, which gives logits of the tokens ``ids`` (ascending) of ``n_vocab``.

    ``inner.hidden()`` is the input of its head, shape (n, n_embd). ``head`` returns rows of the whole head: n tokens →
    (n, n_embd). If ``softcap`` is not 0, logits are ``softcap`` · tanh(· / ``softcap``).
    """

    def __init__(
        self,
        inner: Context,
        ids: NDArray[Any],
        n_vocab: int,
        head: Callable[[Sequence[int]], Rows],
        softcap: float = 0.0,
    ) -> None:
        self._inner, self._ids, self._n_vocab = inner, ids.astype(np.int64), n_vocab
        self.tokens, self.n_ctx, self.decode_s = inner.tokens, inner.n_ctx, inner.decode_s
        self.rollback = inner.rollback
        self._rows = np.full((1, n_vocab), -np.inf, np.float32)
        self._text = _TextTokens(self._ids, n_vocab, head)
        self._softcap = softcap

    def decode(self, tokens: Sequence[int], outputs: Outputs = "all") -> Rows:
        found = self._inner.decode(tokens, outputs)
        self.decode_s = self._inner.decode_s
        for gone in self._text.add(tokens):
            self._rows[:, gone] = -np.inf
        if len(found) > len(self._rows):
            self._rows = np.full((len(found), self._n_vocab), -np.inf, np.float32)
        rows = self._rows[: len(found)]
        for row, kept in zip(rows, found, strict=True):
            row[self._ids] = kept
        if len(found) and len(self._text.ids):
            rows[:, self._text.ids] = self._more(self._inner.hidden()[-len(found) :])
        return rows

    def _more(self, hidden: Rows) -> Rows:
        logits: Rows = hidden @ self._text.head.T
        return np.tanh(logits / self._softcap) * np.float32(self._softcap) if self._softcap else logits

    def hidden(self) -> Rows:
        return self._inner.hidden()

    def rewind(self, length: int) -> None:
        self._inner.rewind(length)

    def reach(self, length: int) -> int:
        return self._inner.reach(length)

    def mark(self, *, brief: bool = False) -> None:
        self._inner.mark(brief=brief)

    def identity(self) -> str:
        return self._inner.identity()

    def state(self) -> bytes:
        return self._inner.state()

    def restore(self, state: bytes, tokens: Sequence[int]) -> None:
        self._inner.restore(state, tokens)
        self.decode_s = self._inner.decode_s
        for gone in self._text.add(tokens):
            self._rows[:, gone] = -np.inf

    def close(self) -> None:
        self._inner.close()


class _TextTokens:
    """The latest tokens of the text that are not kept, and their rows of the head."""

    def __init__(self, kept: NDArray[np.int64], n_vocab: int, rows_of: Callable[[Sequence[int]], Rows]) -> None:
        self._known = bytearray(n_vocab)
        for token in kept.tolist():
            self._known[token] = 1
        self._rows_of = rows_of
        self._order: list[int] = []
        self._next = 0
        self._head: Rows | None = None

    @property
    def ids(self) -> list[int]:
        return self._order

    @property
    def head(self) -> Rows:
        """Rows of the head, shape (n, n_embd), in the order of :attr:`ids`."""
        assert self._head is not None
        return self._head[: len(self._order)]

    def add(self, tokens: Sequence[int]) -> list[int]:
        """Add ``tokens``, and return those that were removed for them."""
        known = self._known
        new = [token for token in dict.fromkeys(tokens) if not known[token]][-_MOST:]
        if not new:
            return []
        gone = []
        rows = self._rows_of(new)
        if self._head is None:
            self._head = np.zeros((_MOST, rows.shape[1]), np.float32)
        for token, row in zip(new, rows, strict=True):
            if len(self._order) < _MOST:
                self._order.append(token)
                at = len(self._order) - 1
            else:
                at, self._next = self._next, (self._next + 1) % _MOST
                gone.append(self._order[at])
                known[self._order[at]] = 0
                self._order[at] = token
            self._head[at] = row
            known[token] = 1
        return gone
