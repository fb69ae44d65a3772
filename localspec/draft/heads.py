"""Prediction heads of the target as drafter. They read its hidden rows, and have a cache of their own.

Cells of the text come from the target's rows. So drafted tokens are removed again, and what was accepted of them is
read with the target's rows when the next guess is requested.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from localspec.draft.base import Guess, KnownPrefix, Prefix, guess_from_row
from localspec.protocols import HeadContext


class HeadDrafter:
    """Drafts with heads. It cannot continue another drafter's tokens: it needs the target's hidden rows."""

    free = False

    def __init__(self, context: HeadContext) -> None:
        self.name = context.name
        self._context = context
        self._known = KnownPrefix()
        #: Text whose cells were computed with the target's rows, as far as the context holds them.
        self._read: list[int] = []

    @property
    def decode_s(self) -> float:
        return self._context.decode_s

    def propose(self, prefix: Prefix, ahead: Sequence[int] = ()) -> Iterator[Guess]:
        start, goes_on = self._start(prefix)
        tokens, context = prefix.tokens, self._context
        if ahead or start is None:
            return
        row = context.read(tokens[start:], start, goes_on=goes_on)[0]
        del self._read[start:]
        self._read.extend(tokens[len(self._read) :])
        if context.heads > 1:
            self._read.pop()  # the next head replaces the cell of the last token
        drafted, hidden = list[int](), list[NDArray[np.float32]]()
        while True:
            hidden.append(context.hidden()[0].copy())
            guess = guess_from_row(prefix, row, drafted)
            drafted.append(guess.token)
            yield guess
            if 1 < context.heads <= len(drafted):
                return
            row = context.step([tokens[-1], *drafted], np.array(hidden))[0]

    def lag(self, prefix: Prefix, ahead: Sequence[int] = ()) -> int:
        start, _ = self._start(prefix)
        return 1 if start is None else len(prefix.tokens) - start

    def _start(self, prefix: Prefix) -> tuple[int | None, bool]:
        """Return the position from which the text is to be read, and True if the cells before it are of use.

        None where the target's row before the last token is not there.
        """
        n = len(prefix.tokens)
        first, end = self._context.available
        if end < n - 1 or first > n - 2:
            return None, False
        held_from, held_to = self._context.held
        start = min(self._known.shared(self._read, prefix), held_to, n - 1)
        earliest = first + 1 if first else 0
        goes_on = start > held_from and start >= earliest
        return (start if goes_on else earliest), goes_on

    def observe(self, prefix: Prefix) -> None:
        """Do nothing: all that it needs are the target's rows."""

    def close(self) -> None:
        self._context.close()
