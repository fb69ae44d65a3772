"""The bytes of a saved sequence: looked through before llama.cpp reads them (it aborts on some), and made longer.

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


def repeat_cells(state: bytes, times: int) -> bytes | None:
    """The state of a cache that holds the cells of ``state`` ``times`` over, at positions 0, 1, 2, …

    What fills a long cache without decoding. None where ``state`` is none of :func:`holds`, or V is transposed in it.
    """
    if len(state) < _START.size + _HEAD.size:
        return None
    n_tokens = int(_HEAD.unpack_from(state, _START.size)[1])
    if not holds(state, n_tokens):
        return None
    parts, at = [state[: _START.size]], _START.size
    while at < len(state):
        end = _cache_end(state, at, n_tokens)
        repeated = _repeat_cache(state, at, end, n_tokens, times)
        if repeated is None:
            return None
        parts.append(repeated)
        at = end
    return b"".join(parts)


def _repeat_cache(state: bytes, at: int, end: int, n_tokens: int, times: int) -> bytes | None:
    """The cache at ``at`` … ``end``, which was looked through; None unless it has every token's cell, V as it is."""
    cells = np.zeros(n_tokens * times, _CELL)
    cells["position"], cells["sequences"] = np.arange(len(cells)), 1
    kept = int(_HEAD.unpack_from(state, at)[1])
    at += _HEAD.size + n_tokens * _CELL.itemsize
    if kept != n_tokens or _DATA.unpack_from(state, at)[0]:
        return None
    parts = [_HEAD.pack(1, len(cells)), cells.tobytes(), state[at : at + _DATA.size]]
    at += _DATA.size
    while at < end:
        rows = at + _ROWS.size
        size = n_tokens * int(_ROWS.unpack_from(state, at)[1])
        parts += [state[at:rows], state[rows : rows + size] * times]
        at = rows + size
    return b"".join(parts)


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
