"""Tensors of the model, read as float32 in blocks of rows.

A source has a shape and reads only the rows that are needed: no tensor has to be in memory as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
#: Most values of a block: 1 MB of float32, which stays in a core's cache while it is encoded.
BLOCK_ELEMENTS = 1 << 18


class TensorSource(Protocol):
    """A tensor in row-major order; ``shape`` has the outermost dimension first."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def rows(self, start: int, stop: int) -> Floats:
        """Read part of the first dimension as float32, shape ``(stop - start, *shape[1:])``."""
        ...


@dataclass(frozen=True)
class ArraySource:
    """A small tensor in memory, such as rope factors."""

    values: Floats

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def rows(self, start: int, stop: int) -> Floats:
        return self.values[start:stop]


@dataclass(frozen=True)
class FirstRows:
    """The first ``count`` rows of another source."""

    source: TensorSource
    count: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.count, *self.source.shape[1:])

    def rows(self, start: int, stop: int) -> Floats:
        return self.source.rows(start, min(stop, self.count))


@dataclass(frozen=True)
class Stacked:
    """Tensors of one shape in separate sources, as one source with a dimension more."""

    parts: tuple[TensorSource, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.parts), *self.parts[0].shape)

    def rows(self, start: int, stop: int) -> Floats:
        return np.stack([part.rows(0, part.shape[0]) for part in self.parts[start:stop]])


@dataclass(frozen=True)
class ModelTensor:
    """A tensor of the GGUF file: its name in the file and the source of its values."""

    name: str
    source: TensorSource

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


def spans(source: TensorSource) -> Iterator[tuple[int, int]]:
    """Yield all rows in order as (start, stop), at most ``BLOCK_ELEMENTS`` values (or one row) in each."""
    count = source.shape[0]
    row = max(1, math.prod(source.shape[1:]))
    step = max(1, BLOCK_ELEMENTS // row)
    for start in range(0, count, step):
        yield start, min(start + step, count)


def blocks(source: TensorSource) -> Iterator[Floats]:
    """Yield the rows of every span of :func:`spans`."""
    for start, stop in spans(source):
        yield source.rows(start, stop)
