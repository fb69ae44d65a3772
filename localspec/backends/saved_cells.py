"""Looks through the bytes of a saved sequence before llama.cpp reads them: it aborts on some that are no sequence.

Layout as ``llama_context::state_seq_get_data`` and ``llama_kv_cache::state_write`` write it: a magic number, the
sequence; for each cache the number of streams (1) and of cells, for each cell its position and sequences (1); whether
V is transposed, the number of layers, then K and V: for each layer type, bytes a cell and the cells, or where V is
transposed type, bytes an element, elements a cell and the cells.
"""

from __future__ import annotations

import struct

import numpy as np

_MAGIC = 0xAF143CD8
_START, _HEAD, _DATA = struct.Struct("<Ii"), struct.Struct("<II"), struct.Struct("<II")
_ROWS, _ELEMENTS = struct.Struct("<iQ"), struct.Struct("<iII")
_CELL = np.dtype([("position", "<i4"), ("sequences", "<u4"), ("sequence", "<i4")])


def holds(state: bytes, n_tokens: int) -> bool:
    """Whether ``state`` is an attention cache of one sequence of ``n_tokens``.

    A sliding window's cache may lack cells at the beginning. False too for layouts that this module does not know
    (recurrent layers, positions of several dimensions, no V).
    """
    try:
        magic, _ = _START.unpack_from(state, 0)
        at, caches = _START.size, 0
        while at < len(state):
            at = _cache_end(state, at, n_tokens)
            caches += 1
    except (struct.error, ValueError):
        return False
    return bool(magic == _MAGIC and at == len(state) and caches)


def _cache_end(state: bytes, at: int, n_tokens: int) -> int:
    streams, cells = _HEAD.unpack_from(state, at)
    at += _HEAD.size
    if streams != 1 or not 0 < cells <= n_tokens or at + cells * _CELL.itemsize > len(state):
        raise ValueError("not one sequence of so many tokens")
    found = np.frombuffer(state, _CELL, cells, at)
    if not (found["sequences"] == 1).all() or (found["position"] != np.arange(n_tokens - cells, n_tokens)).any():
        raise ValueError("not the positions of a sequence, in order")
    at += cells * _CELL.itemsize
    transposed, layers = _DATA.unpack_from(state, at)
    at += _DATA.size
    for values in (False, True):
        for _ in range(layers):
            if values and transposed:
                _, size, elements = _ELEMENTS.unpack_from(state, at)
                at += _ELEMENTS.size + size * elements * cells
            else:
                _, size = _ROWS.unpack_from(state, at)
                at += _ROWS.size + size * cells
            if at > len(state):
                raise ValueError("shorter than it says")
    return at
