"""Interface of a context that runs passes: in this process (:mod:`localspec.llama.native`), or in another one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from localspec.protocols import Rows


class BatchPart(NamedTuple):
    """Rows of one sequence in a pass: its ``tokens`` from position ``start`` on; those in ``outputs`` have logits."""

    tokens: Sequence[int]
    start: int
    outputs: range


class Native(Protocol):
    """A llama_context with a batch. ``cells``: those of each sequence. ``threads``: those of the next pass."""

    cells: int
    threads: int

    @property
    def handle(self) -> Any:
        """The llama_context. Raises :class:`BackendError` where it is closed, or in another process."""

    def fill(self, tokens: Sequence[int], start: int, n_out: int, sequence: int = 0) -> None:
        """Write a pass over ``tokens`` at position ``start`` into the batch; the last ``n_out`` rows are outputs."""

    def fill_neighbours(self, first: int, parts: Sequence[BatchPart]) -> int:
        """Write a pass of consecutive sequences from ``first`` on, with equally many rows each; returns the rows.

        llama.cpp computes such a pass at once, and others in parts.
        """

    def run(self, n: int, embd: Any = None) -> None:
        """Decode the batch of ``n`` tokens, with ``embd`` (a pointer to floats) beside or in place of them."""

    def run_embedded(self, n: int, inputs: Rows, *, causal: bool = True) -> None:
        """Decode embeddings of shape (n, n_embd) in place of tokens; those that are not ``causal`` see one another."""

    def rows(self, n: int) -> Rows:
        """Logits of the ``n`` outputs of the last pass, shape (n, n_vocab)."""

    def hidden(self, n: int) -> Rows:
        """Hidden rows of the first ``n`` outputs of the last pass, shape (n, n_embd)."""

    def adapt_threads(self, adaptive: bool) -> None:
        """Use fewer threads while other programs use the CPU, or all threads again.

        No effect where a row could depend on the number of threads, except with ``fast``.
        """

    def remove(self, sequence: int, first: int) -> bool:
        """Remove a sequence's cells from position ``first`` on (−1: all); False where that is impossible."""

    def clear(self) -> None:
        """Remove all cells."""

    def copy(self, source: int, target: int) -> None:
        """Replace the cells of a sequence, which has none, by those of another."""

    def state(self, sequence: int) -> bytes:
        """Cells of a sequence as bytes; none where they cannot be saved."""

    def set_state(self, sequence: int, state: bytes) -> int:
        """Replace a sequence's cells by saved ones. Returns the bytes that were read: all, or it failed."""

    def first_position(self, sequence: int) -> int:
        """The first position that a sequence has a cell of; −1 if it has none."""

    def close(self) -> None:
        """Free the context. May be called twice."""


class OpensContexts(Protocol):
    """Makes the contexts of models that are loaded in another process.

    ``cells_are_free``: cells are proved not to depend on the passes that compute them.
    """

    cells_are_free: bool

    def open(
        self, model: Any, options: Any, n_batch: int, n_ctx: int, *, n_hidden: int, fast: bool, beside: Native | None
    ) -> Native:
        """See :func:`localspec.llama.native.open_native`."""
