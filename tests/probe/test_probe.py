"""Laws of the probe on contexts whose errors are made: which passes it compares, and the numbers that it finds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from localspec.errors import BackendError
from localspec.probe.batch_invariance import Invariance, largest_difference, probe
from localspec.protocols import Outputs, Rows
from localspec.testing import ScriptedContext

#: One row for every text.
ROW = np.array([1.0, -1.0, -1.25, -7.0, -7.25, -20.0], np.float32)
#: Without a long cache.
SHORT = 640
TEXT = [0, 1, 2, 3, 4]


class Made(ScriptedContext):
    """Adds ``error(width, row, cached)`` to each row, and writes cells of the kind ``cell(width, row)``.

    ``passes`` lists (cached tokens, width) of each pass. ``seconds`` are those of a pass, by its number.
    """

    def __init__(
        self,
        error: Callable[[int, int, int], Sequence[float] | float] = lambda width, row, cached: 0.0,
        cell: Callable[[int, int], int] = lambda width, row: 0,
        n_ctx: int = SHORT,
        pass_width: int = 256,
        seconds: Callable[[int], float] = lambda number: 0.0,
    ) -> None:
        super().__init__(lambda tokens: ROW.copy(), len(ROW), n_ctx, batch=4096)
        self.pass_width, self._error, self._cell, self._seconds = pass_width, error, cell, seconds
        self.cells: list[int] = []
        self.passes: list[tuple[int, int]] = []

    def decode(self, tokens: Sequence[int], outputs: Outputs = "all") -> Rows:
        self.decode_s += self._seconds(len(self.passes))
        cached = len(self.tokens)
        self.passes.append((cached, len(tokens)))
        self.cells += [self._cell(len(tokens), row) for row in range(len(tokens))]
        rows = super().decode(tokens, outputs)
        for row in range(len(rows)):
            rows[row] += np.asarray(self._error(len(tokens), row, cached), np.float32)
        return rows

    def rewind(self, length: int) -> None:
        super().rewind(length)
        del self.cells[length:]

    def state(self) -> bytes:
        return bytes(self.cells)

    def widths(self) -> list[int]:
        """Widths of the compared passes, without the first one, which fills the cache."""
        return [width for _, width in self.passes[1:] if width > 1]


def wide(error: Sequence[float] | float, above: int = 1) -> Callable[[int, int, int], Sequence[float] | float]:
    return lambda width, row, cached: error if width > above else 0.0


# Rows.


def test_the_difference_is_that_of_the_logit_that_changed_most() -> None:
    """Up or down."""
    found = probe(Made(wide([0.1, -0.1, 0.3, -0.5, 0.4, 0.0])), TEXT)
    assert (found.width, found.probed) == (1, 32)
    assert found.difference == pytest.approx(0.5)


def test_a_forbidden_token_has_no_difference() -> None:
    """Minus infinity in both rows; and one row alone makes them different."""
    rows = np.array([[0.0, -np.inf], [1.0, -np.inf]], np.float32)
    assert largest_difference(rows, rows) == 0.0
    assert largest_difference(rows, rows[::-1]) == 1.0
    assert 0.0 < largest_difference(rows, np.array([[0.0, 1.0], [1.0, 1.0]], np.float32)) < 1e-30


def test_the_widest_difference_counts() -> None:
    """Over all widths and rows."""
    found = probe(Made(lambda width, row, cached: [0.01 * width * (row == 3), 0, 0, 0, 0, 0]), TEXT)
    assert found.width == 3
    assert found.difference == pytest.approx(0.16)


@pytest.mark.parametrize(
    ("widest", "widths"),
    [
        (64, [2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 27, 32, 46, 64]),
        (32, [2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 27, 32]),
        (10, [2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (3, [2, 3]),
    ],
)
def test_passes_of_an_exact_context(widest: int, widths: list[int]) -> None:
    """All narrow ones, and wider ones of several remainders."""
    context = Made()
    assert probe(context, TEXT, widest) == Invariance(widest, widest)
    assert context.widths()[: len(widths)] == widths
    assert context.passes[0] == (0, 32)
    last = context.passes.index((32, widths[-1]))
    assert {cached for cached, width in context.passes[1 : last + 1] if width > 1} == {32}


@pytest.mark.parametrize("text", [[3], [3, 4], list(range(5)) * 80])
def test_a_text_of_any_length_will_do(text: list[int]) -> None:
    """It is repeated as often as needed."""
    whole, context = Made(), Made()
    assert probe(context, text) == probe(whole, TEXT)
    assert context.passes == whole.passes


def test_few_passes_follow_a_difference() -> None:
    """Only powers of two, 9 and 16 tell more about the difference."""
    context = Made(wide([1.0, 0, 0, 0, 0, 0], above=2))
    assert probe(context, TEXT, 64).width == 2
    assert context.widths()[:5] == [2, 3, 4, 9, 16]


@pytest.mark.parametrize(
    ("seconds", "widths"),
    [
        (lambda number: 0.3, [2, 4, 9, 16]),
        (lambda number: 0.19, [2, 3, 4, 5]),
        (lambda number: 9.0 if number < 2 else 0.1, [2, 3, 4, 5]),
    ],
    ids=["slow", "not slow", "reads the file first"],
)
def test_few_passes_are_made_with_a_slow_model(seconds: Callable[[int], float], widths: list[int]) -> None:
    """One whose single-token pass takes over 0.2 s, when its weights are in memory."""
    context = Made(seconds=seconds)
    assert probe(context, TEXT).width == 32
    assert context.widths()[:4] == widths


@pytest.mark.parametrize("exact", [2, 3])
def test_a_slow_model_is_exact_up_to_three_rows_where_it_is(exact: int) -> None:
    """The kernels of K-quants change at four rows: three are compared too, since drafts of two tokens are worth it."""
    context = Made(wide([1.0, 0, 0, 0, 0, 0], above=exact), seconds=lambda number: 0.3)
    assert probe(context, TEXT).width == exact
    assert 3 in context.widths()


@pytest.mark.parametrize(("row", "width"), [(0, 1), (7, 7), (8, 8), (9, 32)])
def test_nine_rows_of_a_pass_are_compared(row: int, width: int) -> None:
    """A difference further on is not seen."""
    assert probe(Made(lambda n, at, cached: [float(n > 1 and at == row), 0, 0, 0, 0, 0]), TEXT).width == width


@pytest.mark.parametrize(("exact", "difference"), [(1, 5.0), (8, 5.0), (9, 1.0)])
def test_single_row_behind_a_differing_pass_counts(exact: int, difference: float) -> None:
    """It reads the cells of the pass; up to 9 tokens, where a single row is there to compare it with."""
    after: list[int] = [0]

    def error(width: int, row: int, cached: int) -> Sequence[float]:
        found = [float(width > exact), 0, 0, 0, 0, 0]
        if width == 1 and after[0] > exact:
            found = [5.0, 0, 0, 0, 0, 0]
        after[0] = width
        return found

    assert probe(Made(error), TEXT).difference == pytest.approx(difference)


# A long cache.


def late(width: int, row: int, cached: int) -> Sequence[float]:
    """Rows of wide passes behind more than 512 tokens are off; the third by most."""
    return [(1.0 + (row == 2)) * (width > 1 and cached > 512), 0, 0, 0, 0, 0]


def test_rows_behind_a_long_cache_are_compared() -> None:
    """Of passes of 2, 4 and 9 tokens."""
    context = Made(late, n_ctx=SHORT + 1)
    found = probe(context, TEXT)
    assert (found.width, found.difference) == (1, pytest.approx(2.0))
    long = [(cached, width) for cached, width in context.passes if cached == SHORT and width > 1]
    assert long == [(SHORT, 2), (SHORT, 4), (SHORT, 9)]


def test_a_context_without_room_for_a_long_cache_has_none() -> None:
    """It never holds one."""
    context = Made(late, n_ctx=SHORT)
    assert probe(context, TEXT) == Invariance(32, 32)
    assert SHORT not in {cached for cached, _ in context.passes}


@pytest.mark.parametrize("row", [3, 4])
def test_four_rows_behind_a_long_cache_are_compared(row: int) -> None:
    """Single passes there take time."""
    context = Made(lambda n, at, cached: [float(n > 1 and at == row and cached > 512), 0, 0, 0, 0, 0], n_ctx=SHORT + 1)
    assert probe(context, TEXT).exact == (row == 4)


# Cells.


def ragged(width: int, row: int) -> int:
    """In wide passes, cells of a last group of rows that is not full are computed in another way."""
    return int(width > 32 and row >= width - width % 8)


@pytest.mark.parametrize(
    ("cell", "chunk"),
    [
        (lambda width, row: 0, 1),
        (ragged, 64),
        (lambda width, row: int(width > 64 and width % 64 > 0), 64),
        (lambda width, row: int(width > 64), 256),
        (lambda width, row: int(row == 100), 256),
    ],
    ids=["equal", "ragged", "multiple of 64", "wide", "place"],
)
def test_prompts_are_cut_where_cells_depend_on_passes(cell: Callable[[int, int], int], chunk: int) -> None:
    """Into no chunks, into chunks whose cells are those of a wide pass, or into whole passes."""
    assert probe(Made(cell=cell), TEXT).chunk == chunk


def test_where_rows_differ_cells_are_compared_by_chunk_only() -> None:
    """The cells of single-token passes differ as the rows do."""
    assert probe(Made(wide([1.0, 0, 0, 0, 0, 0])), TEXT).chunk == 64


@pytest.mark.parametrize(("pass_width", "chunk"), [(64, 64), (65, 65), (127, 127), (128, 64), (512, 64)])
def test_a_chunk_is_compared_with_a_pass_of_several(pass_width: int, chunk: int) -> None:
    """Else prompts are cut into whole passes."""
    assert probe(Made(cell=ragged, pass_width=pass_width), TEXT).chunk == chunk


@pytest.mark.parametrize(("n_ctx", "cached"), [(384 + 255, 32), (384 + 256, 384), (SHORT + 1, 384)])
def test_cells_are_compared_across_the_split_of_attention(n_ctx: int, cached: int) -> None:
    """Behind 384 tokens, if the context has room; passes of 251 tokens and of 32."""
    context = Made(n_ctx=n_ctx)
    assert probe(context, TEXT).chunk == 1
    compared = context.passes[context.passes.index((cached, 251)) :]
    assert compared == [(cached, 251), *((cached + at, min(32, 251 - at)) for at in range(0, 251, 32))]


def test_a_slow_model_compares_fewer_cells() -> None:
    """Two chunks."""
    context = Made(cell=ragged, seconds=lambda number: 1.0)
    assert probe(context, TEXT).chunk == 64
    assert context.passes[-3:] == [(384, 128), (384, 64), (448, 64)]


def test_a_small_context_compares_the_cells_that_it_holds() -> None:
    """Less the 32 that are held."""
    context = Made(n_ctx=200)
    assert probe(context, TEXT).chunk == 1
    assert (32, 163) in context.passes
    assert max(cached + width for cached, width in context.passes) <= 200


def test_a_cache_that_cannot_be_saved_is_never_reused_in_part() -> None:
    """Nothing is known of its cells."""

    class Closed(Made):
        def state(self) -> bytes:
            raise BackendError("no state")

    assert probe(Closed(), TEXT) == Invariance(32, 32, chunk=256)


# The end.


@pytest.mark.parametrize("number", [0, 5, 20, 30])
def test_the_cache_is_empty_afterwards(number: int) -> None:
    """Also after an interrupt."""

    def seconds(at: int) -> float:
        if at == number:
            raise KeyboardInterrupt
        return 0.0

    context = Made(seconds=seconds)
    context.tokens.extend(TEXT)
    with pytest.raises(KeyboardInterrupt):
        probe(context, TEXT)
    assert context.tokens == []
