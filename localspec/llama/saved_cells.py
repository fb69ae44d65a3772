"""The bytes of a saved sequence: checked before llama.cpp reads them, because it aborts on some, and made longer.

Layout, from ``llama_context::state_seq_get_data`` and ``llama_kv_cache::state_write``: a magic number and the sequence;
then for each cache the number of streams, and for each stream the number of cells, which is 0 for those of other
sequences; for each cell its position and its sequences (1); a flag for transposed values and the number of layers; then
the keys and the values. These are, for each layer, a type, the bytes of a cell and the cells; or for transposed values
a type, the bytes of an element, the elements of a cell and the cells. A cell of a model with positions of several
dimensions also has two of them and its token.

A recurrent state comes last, from ``llama_memory_recurrent::state_write``: the number of cells (1), the position of the
last token and no sequences; the flag and the number of layers; then the states, each a type, its bytes and the state.

Behind all that localspec puts a checkpoint of a recurrent state, where there is one: its bytes, for how many tokens it
is, how long, and a magic number.
"""

from __future__ import annotations

import struct

import numpy as np

_MAGIC = 0xAF143CD8
#: Magic number and sequence.
_START = struct.Struct("<Ii")
#: Streams of a cache, or cells of a stream; and both for a cache of one stream.
_COUNT, _CACHE = struct.Struct("<I"), struct.Struct("<II")
#: Most streams of llama.cpp.
_MOST_STREAMS = 256
#: Flag for transposed values, and layers.
_DATA = struct.Struct("<II")
#: Type, and bytes of a cell.
_ROWS = struct.Struct("<iQ")
#: Type, bytes of an element, and elements of a cell.
_ELEMENTS = struct.Struct("<iII")
_CELL = np.dtype([("position", "<i4"), ("sequences", "<u4"), ("sequence", "<i4")])
#: A cell with positions of several dimensions.
_WIDE_CELL = np.dtype([("position", "<i4"), ("sequences", "<u4"), ("more", "<i4", 3), ("sequence", "<i4")])
#: Tokens and bytes of a checkpoint.
_CHECKPOINT, _CHECKPOINT_MAGIC = struct.Struct("<QQ8s"), b"LSCHECKP"
#: Cells, position, sequences, flag and layers of a recurrent state.
_RECURRENT = struct.Struct("<IiIII")


def is_state_of(state: bytes, n_tokens: int) -> bool:
    """True if ``state`` is the cache of one sequence of ``n_tokens``: of attention, a recurrent state, or both.

    A sliding window's cache may lack cells at the beginning. False for layouts that this module does not know.
    """
    try:
        magic, _ = _START.unpack_from(state, 0)
        at, caches = _START.size, 0
        while at < len(state):
            at = len(state) if _is_recurrent(state, at, n_tokens) else _cache_end(state, at, n_tokens)
            caches += 1
    except (struct.error, ValueError):
        return False
    return bool(magic == _MAGIC and at == len(state) and caches)


def add_checkpoint(state: bytes, n_tokens: int, checkpoint: bytes) -> bytes:
    """Put a ``checkpoint`` of ``n_tokens`` behind a state."""
    return b"".join((state, checkpoint, _CHECKPOINT.pack(n_tokens, len(checkpoint), _CHECKPOINT_MAGIC)))


def split_checkpoint(state: bytes) -> tuple[bytes, int, bytes]:
    """Return a state without its checkpoint, the tokens of that (0: there is none) and its bytes."""
    behind = len(state) - _CHECKPOINT.size
    if behind >= 0:
        n_tokens, size, magic = _CHECKPOINT.unpack_from(state, behind)
        if magic == _CHECKPOINT_MAGIC and size <= behind:
            return state[: behind - size], n_tokens, state[behind - size : behind]
    return state, 0, b""


def repeat_cells(state: bytes, times: int) -> bytes | None:
    """The state of a cache that holds the cells of ``state`` ``times`` over, at positions 0, 1, 2, …

    It fills a long cache without decoding. None for a state of an unknown layout or with transposed values.
    """
    if len(state) < _START.size + _CACHE.size:
        return None
    streams, n_tokens = map(int, _CACHE.unpack_from(state, _START.size))
    if streams != 1 or not is_state_of(state, n_tokens):
        return None
    parts, at = [state[: _START.size]], _START.size
    while at < len(state):
        try:
            end = _cache_end(state, at, n_tokens)
        except (struct.error, ValueError):  # a recurrent state cannot be repeated
            return None
        repeated = _repeat_cache(state, at, end, n_tokens, times)
        if repeated is None:
            return None
        parts.append(repeated)
        at = end
    return b"".join(parts)


def _repeat_cache(state: bytes, at: int, end: int, n_tokens: int, times: int) -> bytes | None:
    """Repeat the checked cache at ``at`` … ``end``; None if cells are missing or values are transposed."""
    cells = np.zeros(n_tokens * times, _CELL)
    cells["position"], cells["sequences"] = np.arange(len(cells)), 1
    kept = int(_CACHE.unpack_from(state, at)[1])
    if _cells_end(state, at + _CACHE.size, kept, n_tokens) != at + _CACHE.size + kept * _CELL.itemsize:
        return None
    at += _CACHE.size + n_tokens * _CELL.itemsize
    if kept != n_tokens or _DATA.unpack_from(state, at)[0]:
        return None
    parts = [_CACHE.pack(1, len(cells)), cells.tobytes(), state[at : at + _DATA.size]]
    at += _DATA.size
    while at < end:
        rows = at + _ROWS.size
        size = n_tokens * int(_ROWS.unpack_from(state, at)[1])
        parts += [state[at:rows], state[rows : rows + size] * times]
        at = rows + size
    return b"".join(parts)


def _cache_end(state: bytes, at: int, n_tokens: int) -> int:
    """The offset behind the cache at ``at``. Raises ValueError or struct.error for anything else than a whole one."""
    (streams,) = _COUNT.unpack_from(state, at)
    at += _COUNT.size
    ends = list[int]()
    for _ in range(min(streams, _MOST_STREAMS)):
        (cells,) = _COUNT.unpack_from(state, at)
        at += _COUNT.size
        if cells:
            at = _stream_end(state, at, cells, n_tokens)
            ends.append(at)
    if len(ends) != 1 or streams > _MOST_STREAMS:
        raise ValueError("not one sequence")
    return at


def _stream_end(state: bytes, at: int, cells: int, n_tokens: int) -> int:
    """The offset behind the cells of a stream, which begin at ``at``. Raises likewise."""
    if cells > n_tokens:
        raise ValueError("not one sequence of so many tokens")
    at = _cells_end(state, at, cells, n_tokens)
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
                raise ValueError("cells are missing at the end")
    return at


def _cells_end(state: bytes, at: int, cells: int, n_tokens: int) -> int:
    """The offset behind the positions of the cells, of either kind. Raises likewise."""
    for kind in (_CELL, _WIDE_CELL):
        if at + cells * kind.itemsize <= len(state):
            found = np.frombuffer(state, kind, cells, at)
            in_order = (found["position"] == np.arange(n_tokens - cells, n_tokens)).all()
            if in_order and (found["sequences"] == 1).all():
                return at + cells * kind.itemsize
    raise ValueError("not the positions of a sequence, in order")


def _is_recurrent(state: bytes, at: int, n_tokens: int) -> bool:
    """True if a recurrent state after ``n_tokens`` begins at ``at`` and ends with ``state``."""
    if at + _RECURRENT.size > len(state):
        return False
    cells, position, sequences, transposed, _ = _RECURRENT.unpack_from(state, at)
    if (cells, position, sequences, transposed) != (1, n_tokens - 1, 0, 0):
        return False
    at += _RECURRENT.size
    while at + _ROWS.size <= len(state):
        at += _ROWS.size + int(_ROWS.unpack_from(state, at)[1])
    return at == len(state)
