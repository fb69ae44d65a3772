"""Tensors whose rows or columns stand in another order in the GGUF file, or whose values are computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gguf_convert.tensors import Floats, TensorSource

Order = npt.NDArray[np.int64]


def heads_by_group(groups: int, heads: int, width: int, first: int = 0) -> Order:
    """The order that brings the heads of one group after another into turns: of each group the first, the second, ….

    ``width``: values of a head. ``first``: values in front that stay.
    """
    turns = np.arange(heads * width).reshape(groups, heads // groups, width).swapaxes(0, 1).reshape(-1)
    return np.concatenate((np.arange(first), first + turns)).astype(np.int64)


@dataclass(frozen=True)
class RowsInOrder:
    """Row *i* is the row ``order[i]`` of ``source``."""

    source: TensorSource
    order: Order = field(repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    def rows(self, start: int, stop: int) -> Floats:
        wanted = self.order[start:stop]
        breaks = np.flatnonzero(np.diff(wanted) != 1) + 1
        return np.concatenate([self.source.rows(int(run[0]), int(run[-1]) + 1) for run in np.split(wanted, breaks)])


@dataclass(frozen=True)
class Columns:
    """Column *i* is the column ``order[i]`` of ``source``."""

    source: TensorSource
    order: Order = field(repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    def rows(self, start: int, stop: int) -> Floats:
        return np.ascontiguousarray(self.source.rows(start, stop)[:, self.order])


@dataclass(frozen=True)
class OnlyRow:
    """The only row of a matrix, as a vector."""

    source: TensorSource

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape[1:]

    def rows(self, start: int, stop: int) -> Floats:
        return self.source.rows(0, 1)[0, start:stop]


@dataclass(frozen=True)
class Computed:
    """Rows of ``source`` as ``compute`` changes them, each by itself."""

    source: TensorSource
    compute: Callable[[Floats], Floats]
    shape: tuple[int, ...]

    def rows(self, start: int, stop: int) -> Floats:
        return np.ascontiguousarray(self.compute(self.source.rows(start, stop)), np.float32)
