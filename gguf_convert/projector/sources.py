"""Tensors in another order or shape than the checkpoint's, read a block at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gguf_convert.tensors import Floats, TensorSource


@dataclass(frozen=True)
class Reshaped:
    """The values of another source in another shape, with as many rows (a number counts as one row)."""

    source: TensorSource
    shape: tuple[int, ...]

    def rows(self, start: int, stop: int) -> Floats:
        return self.source.rows(start, stop).reshape(stop - start, *self.shape[1:])


@dataclass(frozen=True)
class Reordered:
    """A source whose last dimension is put into another order: value i of a row is its value ``order[i]``."""

    source: TensorSource
    order: npt.NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    def rows(self, start: int, stop: int) -> Floats:
        if len(self.shape) == 1:
            return self.source.rows(0, self.shape[0])[self.order][start:stop]
        return self.source.rows(start, stop)[..., self.order]


@dataclass(frozen=True)
class Swapped:
    """A source of three dimensions with the first two exchanged."""

    source: TensorSource

    @property
    def shape(self) -> tuple[int, ...]:
        first, second, last = self.source.shape
        return (second, first, last)

    def rows(self, start: int, stop: int) -> Floats:
        return np.ascontiguousarray(self.source.rows(0, self.source.shape[0])[:, start:stop].swapaxes(0, 1))


@dataclass(frozen=True)
class Softplus:
    """log(1 + e^x) of another source, rounded to float32 after each step, as torch rounds."""

    source: TensorSource

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    def rows(self, start: int, stop: int) -> Floats:
        values = self.source.rows(start, stop)
        powers = np.exp(np.minimum(values, 20).astype(np.float64)).astype(np.float32)
        return np.where(values > 20, values, np.log1p(powers.astype(np.float64))).astype(np.float32)


def colours_first(patch: int) -> npt.NDArray[np.int64]:
    """Return the order that turns a patch of RGB pixels into three planes: shape (3 · patch²,)."""
    order: npt.NDArray[np.int64] = np.arange(3 * patch * patch).reshape(patch * patch, 3).T.reshape(-1)
    return order


def planes(source: TensorSource, patch: int) -> Reshaped:
    """Turn rows of RGB pixels into (rows, 3, patch, patch)."""
    return Reshaped(Reordered(source, colours_first(patch)), (source.shape[0], 3, patch, patch))
