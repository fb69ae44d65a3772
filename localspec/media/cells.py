"""Cells of pictures and sounds in a list of tokens. Pure.

A picture takes some cells of a cache, and as many entries of its list of tokens, so entry *i* stays cell *i*. These
entries are negative: a hash of what the cell shows. Two lists are therefore equal exactly as far as their caches are,
and no tokenizer, drafter or penalty takes an entry for a token. The first cell of a span is marked, so the spans of a
list are known from the list alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

#: Bits of the hash in a cell. The bit above them is always set, and with the mark of the first cell they fit 63 bits.
_BITS = 60


def make_cells(key: str, count: int) -> tuple[int, ...]:
    """Return the ``count`` cells of a span. ``key`` names all that its embeddings depend on."""
    data = hashlib.shake_256(key.encode()).digest(8 * count)
    numbers = (int.from_bytes(data[at : at + 8], "little") >> (64 - _BITS) for at in range(0, len(data), 8))
    return tuple(-1 - (2 * (number | 1 << _BITS) + (index == 0)) for index, number in enumerate(numbers))


def is_cell(entry: int) -> bool:
    """Return True for a cell. A small negative number is none: it is a wrong token id."""
    return entry < -(1 << _BITS)


def has_cells(tokens: Sequence[int]) -> bool:
    """Return True if any entry is a cell of a picture or a sound."""
    return min(tokens, default=0) < 0


def text_tokens(tokens: Sequence[int]) -> list[int]:
    """Return the entries that are tokens of text."""
    return [token for token in tokens if token >= 0] if has_cells(tokens) else list(tokens)


def runs(tokens: Sequence[int], start: int = 0) -> Iterator[range]:
    """Yield the indices of each span, and of each run of text between spans, in order.

    ``start`` is the beginning of a run.
    """
    at, end = start, len(tokens)
    while at < end:
        begin, media = at, tokens[at] < 0
        at += 1
        while at < end and (tokens[at] < 0) == media and not (media and _is_first(tokens[at])):
            at += 1
        yield range(begin, at)


def whole(tokens: Sequence[int], length: int) -> int:
    """Return ``length``, or the start of the span that it would cut."""
    while 0 < length < len(tokens) and tokens[length] < 0 and not _is_first(tokens[length]):
        length -= 1
    return length


def last_end(tokens: Sequence[int], length: int) -> int:
    """Return the end of the last span within the first ``length`` entries; 0 without one."""
    while length > 0 and tokens[length - 1] >= 0:
        length -= 1
    return length


def _is_first(cell: int) -> bool:
    return cell < 0 and (-1 - cell) % 2 == 1
