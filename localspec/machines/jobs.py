"""Requests to the child process that have several parts."""

from __future__ import annotations

from dataclasses import dataclass

from localspec.llama.passes import BatchPart


@dataclass(frozen=True)
class Opening:
    """Settings of a context. ``options``: bytes of llama.cpp's structure. ``shared``: a file for its rows."""

    model: int
    options: bytes
    n_batch: int
    n_ctx: int
    n_hidden: int
    fast: bool
    beside: int | None
    shared: str


@dataclass(frozen=True)
class Job:
    """A pass: parts of consecutive sequences from ``sequence`` on. ``embd``: bytes of floats beside the tokens."""

    sequence: int
    parts: tuple[BatchPart, ...]
    embd: bytes | None = None

    @property
    def n_out(self) -> int:
        return sum(len(part.outputs) for part in self.parts)
