"""Rows of numbers to ggml's types and back, by ggml's own functions."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from localspec.gguf.types import BLOCKS, FLOATS, TYPE_NUMBERS
from localspec.llama.symbols import function


def quantize_rows(values: npt.NDArray[np.float32], kind: str) -> npt.NDArray[np.uint8]:
    """The bytes of rows of shape (n, row) as the ggml type named ``kind``, which must divide a row and need no imatrix.

    The values must be finite: ggml aborts on others.
    """
    quantize: Callable[..., int] = _quantize_function()
    rows = np.ascontiguousarray(values, np.float32)
    n, row = rows.shape
    out = np.empty(rows.nbytes, np.uint8)  # no quantised type is wider than F32
    size = quantize(TYPE_NUMBERS[kind], rows.ctypes.data, out.ctypes.data, 0, n, row, None)
    packed: npt.NDArray[np.uint8] = out[:size].copy()
    return packed


def dequantize_rows(packed: npt.NDArray[np.uint8], kind: str, row: int) -> npt.NDArray[np.float32]:
    """The values, shape (n, ``row``), of whole rows that are packed as the ggml type named ``kind``."""
    data = np.ascontiguousarray(packed, np.uint8).reshape(-1)
    if kind == "BF16":
        return (data.view("<u2").astype(np.uint32) << 16).view(np.float32).reshape(-1, row)
    if kind in FLOATS:
        return data.view("<f4" if kind == "F32" else "<f2").astype(np.float32).reshape(-1, row)
    dequantize: Callable[..., None] = _dequantize_function(kind)
    per_block, size = BLOCKS[TYPE_NUMBERS[kind]]
    values = np.empty((data.size // (row // per_block * size), row), np.float32)
    dequantize(data.ctypes.data, values.ctypes.data, values.size)
    return values


@cache
def _quantize_function() -> Any:
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    arguments = (ctypes.c_int, pointer, pointer, number, number, number, pointer)
    return _function("ggml_quantize_chunk", ctypes.c_size_t, *arguments)


@cache
def _dequantize_function(kind: str) -> Any:
    name = f"dequantize_row_{kind.lower().replace('_k', '_K')}"
    return _function(name, None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)


def _function(name: str, *types: Any) -> Any:
    from localspec.llama.binding import shared_libraries  # loads llama.cpp

    return function(shared_libraries(), name, *types)
