"""The bytes of a saved sequence (``llama_state_seq_get_data``), read so far as to repeat its cells.

A cache of many cells is what some kernels choose their path by, and filling one by decoding takes long. Layout as
``llama_context::state_seq_get_data`` and ``llama_kv_cache::state_write`` write it: a magic number and the sequence,
then for each cache the number of streams (1), the number of cells, for each cell
its position and its sequences (1), then whether V is transposed, the number of layers, and for each layer K's type, its
bytes a cell and the cells; the same for V.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_MAGIC = 0xAF143CD8
_START = struct.Struct("<Ii")  # magic, the sequence
_ROWS = struct.Struct("<iQ")  # type, bytes a cell
_CELL = struct.Struct("<iIi")  # position, number of sequences, the sequence
_HEAD = struct.Struct("<II")
_TRANSPOSED_AND_LAYERS = struct.Struct("<II")


@dataclass
class _Reader:
    data: bytes
    at: int = 0

    def take(self, form: struct.Struct) -> tuple[int, ...]:
        values = form.unpack_from(self.data, self.at)
        self.at += form.size
        return values

    def raw(self, size: int) -> bytes:
        if self.at + size > len(self.data):
            raise ValueError("the state is shorter than it says")
        self.at += size
        return self.data[self.at - size : self.at]


def repeat_cells(state: bytes, times: int) -> bytes | None:
    """The state of a cache that holds the cells of ``state`` ``times`` over, at positions 0, 1, 2, …

    None when the layout is not the one that this module knows (transposed V, cells with more to them, a newer format).
    """
    reader = _Reader(state)
    try:
        parts = [_start(reader)]
        while reader.at < len(state):
            parts.append(_repeat_cache(reader, times))
    except (struct.error, ValueError):
        return None
    return b"".join(parts) if len(parts) > 1 else None


def _start(reader: _Reader) -> bytes:
    magic, sequence = reader.take(_START)
    if magic != _MAGIC:
        raise ValueError("another format")
    return _START.pack(magic, sequence)


def _repeat_cache(reader: _Reader, times: int) -> bytes:
    streams, cells = reader.take(_HEAD)
    if streams != 1 or cells == 0:
        raise ValueError("more than one stream, or an empty one")
    for index in range(cells):
        position, sequences, _ = reader.take(_CELL)
        if position != index or sequences != 1:
            raise ValueError("cells that are not one sequence from its beginning")
    transposed, layers = reader.take(_TRANSPOSED_AND_LAYERS)
    if transposed:
        raise ValueError("V is transposed")
    parts = [_HEAD.pack(1, cells * times)]
    parts += [_CELL.pack(index, 1, 0) for index in range(cells * times)]
    parts.append(_TRANSPOSED_AND_LAYERS.pack(0, layers))
    for _ in range(2 * layers):
        kind, size = reader.take(_ROWS)
        parts += [_ROWS.pack(kind, size), reader.raw(size * cells) * times]
    return b"".join(parts)
