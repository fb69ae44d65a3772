"""The context of a trimmed drafter, in the target's vocabulary: what its head does not compute is impossible.

Every token can be fed, so its cache holds the same tokens as the text, position by position. The rows are as long as
the vocabulary and −inf but for the kept tokens: whoever reads them (noise, penalties, masks) knows only the target's
ids. Of a row only the kept tokens are written, some hundredth of what a pass takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localspec.backends.base import Context, Outputs, Rows


class TrimmedContext:
    """A :class:`Context` around ``inner``, whose logits are those of the tokens ``ids`` (ascending) of ``n_vocab``."""

    def __init__(self, inner: Context, ids: NDArray[Any], n_vocab: int) -> None:
        self._inner, self._ids, self._n_vocab = inner, ids.astype(np.int64), n_vocab
        self.tokens, self.n_ctx, self.decode_s = inner.tokens, inner.n_ctx, inner.decode_s
        self._rows = np.full((1, n_vocab), -np.inf, np.float32)

    def decode(self, tokens: Sequence[int], outputs: Outputs = "all") -> Rows:
        found = self._inner.decode(tokens, outputs)
        self.decode_s = self._inner.decode_s
        if len(found) > len(self._rows):
            self._rows = np.full((len(found), self._n_vocab), -np.inf, np.float32)
        rows = self._rows[: len(found)]
        for whole, kept in zip(rows, found, strict=True):
            whole[self._ids] = kept
        return rows

    def hidden(self) -> Rows:
        return self._inner.hidden()

    def rewind(self, length: int) -> None:
        self._inner.rewind(length)

    def identity(self) -> str:
        return self._inner.identity()

    def state(self) -> bytes:
        return self._inner.state()

    def restore(self, state: bytes, tokens: Sequence[int]) -> None:
        self._inner.restore(state, tokens)

    def close(self) -> None:
        self._inner.close()
