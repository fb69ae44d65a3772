"""Numpy views of rows in llama.cpp's memory."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from localspec.errors import BackendError
from localspec.protocols import Rows


class NonFiniteLogitsError(BackendError):
    """A row without a finite largest logit, from which no token can be chosen."""


class RowView:
    """A view of rows that llama.cpp owns, valid until the next decode. It is made anew only when the rows moved."""

    def __init__(self, get_address: Any, columns: int, what: str) -> None:
        """``what`` names the rows in the error for a context that has none."""
        self._get_address, self._columns, self._what = get_address, columns, what
        self._address = self._size = 0
        self._rows: Rows = np.empty((0, columns), np.float32)

    def rows(self, handle: Any, n: int) -> Rows:
        """The first n rows, shape (n, columns)."""
        address = self._get_address(handle) if n else self._address
        if n and not address:
            raise BackendError(f"llama.cpp gave no {self._what}.")
        if address != self._address or n > self._size:
            array = (ctypes.c_float * (n * self._columns)).from_address(address)
            self._rows = np.ctypeslib.as_array(array).reshape(n, self._columns)
            self._address, self._size = address, n
        return self._rows[:n]


def check_finite(rows: Rows, model: str) -> None:
    """Raise :class:`NonFiniteLogitsError` unless the largest logit of each row is a number."""
    if not np.isfinite(rows.max(axis=1)).all():
        raise NonFiniteLogitsError(
            f"{model} computes NaN or infinity in place of logits. Its file is damaged, or this device computes it "
            "wrongly: download or convert it again, or try --device none."
        )
