"""Numpy views over rows that a backend's library owns."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from localspec.errors import BackendError
from localspec.protocols import Rows


class NoNumbersError(BackendError):
    """A row from which no token can be chosen."""


class RowView:
    """A numpy view over rows that llama.cpp owns, made anew only when they moved. Valid until the next decode."""

    def __init__(self, get: Any, columns: int, what: str) -> None:
        self._get, self._columns, self._what = get, columns, what
        self._address = self._size = 0
        self._rows: Rows = np.empty((0, columns), np.float32)

    def rows(self, handle: Any, n: int) -> Rows:
        """The first n rows, shape (n, columns)."""
        address = self._get(handle) if n else self._address
        if n and not address:
            raise BackendError(f"llama.cpp gave no {self._what}.")
        if address != self._address or n > self._size:
            array = (ctypes.c_float * (n * self._columns)).from_address(address)
            self._rows = np.ctypeslib.as_array(array).reshape(n, self._columns)
            self._address, self._size = address, n
        return self._rows[:n]


def check_numbers(rows: Rows, model: str) -> None:
    """Raise :class:`NoNumbersError` unless the largest logit of each row is a number."""
    if not np.isfinite(rows.max(axis=1)).all():
        raise NoNumbersError(
            f"{model} computes NaN or infinity in place of logits. Its file is damaged, or this device computes it "
            "wrongly: download or convert it again, or try --device none."
        )
