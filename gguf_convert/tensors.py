"""Tensors that a checkpoint holds or an architecture makes up, read as float32 in blocks of rows.

Nothing here loads a whole tensor unless asked to: a source knows its shape and hands out rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
BLOCK_ELEMENTS = 1 << 18  # 1 MB of float32 at a time: it stays in a core's cache through the passes over it


class Source(Protocol):
    """A tensor in row-major order, ``shape`` as in the checkpoint (outermost dimension first)."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def rows(self, start: int, stop: int) -> Floats:
        """Part of the first dimension, as float32 of shape ``(stop - start, *shape[1:])``."""
        ...


@dataclass(frozen=True)
class ArraySource:
    """A small tensor that exists only in memory, such as rope factors."""

    values: Floats

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def rows(self, start: int, stop: int) -> Floats:
        return self.values[start:stop]


@dataclass(frozen=True)
class FirstRows:
    """The first ``count`` rows of another source."""

    source: Source
    count: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.count, *self.source.shape[1:])

    def rows(self, start: int, stop: int) -> Floats:
        return self.source.rows(start, min(stop, self.count))


@dataclass(frozen=True)
class ModelTensor:
    """One tensor of the GGUF file: its name there, and where its values come from."""

    name: str
    source: Source

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


def spans(source: Source) -> Iterator[tuple[int, int]]:
    """All rows of a source in order as (start, stop), at most ``BLOCK_ELEMENTS`` values (or one row) in each."""
    count = source.shape[0]
    row = max(1, math.prod(source.shape[1:]))
    step = max(1, BLOCK_ELEMENTS // row)
    for start in range(0, count, step):
        yield start, min(start + step, count)


def blocks(source: Source) -> Iterator[Floats]:
    """The rows of every span, see :func:`spans`."""
    for start, stop in spans(source):
        yield source.rows(start, stop)
