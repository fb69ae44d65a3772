"""Hidden rows of the tokens in a cache, for the prediction heads that read them later."""

from __future__ import annotations

import numpy as np

from localspec.protocols import Rows


class HiddenRows:
    """Rows (n, width) of the tokens at positions ``first`` … ``end`` − 1; those before were not computed here."""

    def __init__(self, width: int) -> None:
        self._rows: Rows = np.empty((0, width), np.float32)
        self.first = self.end = 0

    @property
    def width(self) -> int:
        """Elements of a row."""
        return int(self._rows.shape[1])

    def add(self, position: int, rows: Rows) -> None:
        """Replace the rows from ``position`` on by copies of ``rows``."""
        if not self.first <= position <= self.end:
            self.first = self.end = position
        count = position - self.first + len(rows)
        if count > len(self._rows):
            grown = np.empty((max(count, 2 * len(self._rows)), self._rows.shape[1]), np.float32)
            grown[: position - self.first] = self._rows[: position - self.first]
            self._rows = grown
        self._rows[position - self.first : count] = rows
        self.end = position + len(rows)

    def cut(self, length: int) -> None:
        """Forget the rows from position ``length`` on."""
        self.end = min(self.end, length)
        self.first = min(self.first, self.end)

    def get(self, start: int, end: int) -> Rows:
        """The rows at positions ``start`` … ``end`` − 1, which are all there."""
        return self._rows[start - self.first : end - self.first]
