"""Laws of prefill with pictures and sounds: no pass cuts them, and a cell does not depend on what was cached."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from localspec.generation.loop import Pass, drive
from localspec.generation.prefill import CHUNK, Prefill
from localspec.media.cells import make_cells, runs, whole
from localspec.protocols import UNBOUNDED, Outputs, Rows

#: Texts of some lengths, and pictures with their numbers of cells.
PARTS = st.one_of(
    st.integers(1, 400).map(lambda n: ("text", n)),
    st.tuples(st.sampled_from(["cat", "dog"]), st.sampled_from([1, 63, 64, 70, 300])),
)
PROMPTS = st.lists(PARTS, min_size=0, max_size=4)


def tokens_of(parts: Sequence[tuple[str, int]], ending: int) -> list[int]:
    found: list[int] = []
    for what, n in parts:
        found += [i % 90 for i in range(n)] if what == "text" else make_cells(f"{what} {n}", n)
    return [*found, *[99] * ending]


class Piece:
    tokens: tuple[int, ...] = ()
    causal = False

    def __init__(self, cells: int) -> None:
        self.cells = cells

    def encode(self) -> Rows:
        return np.zeros((self.cells, 1), np.float32)


class Cells:
    """Context that notes for each cell the pass that computed it: its first cell, and where its group of 64 ends.

    ``group``: rows that kernels work in; None: the whole pass.
    """

    n_ctx, decode_s, rollback = 10**6, 0.0, UNBOUNDED

    def __init__(self, group: int | None) -> None:
        self.tokens: list[int] = []
        self.origins: list[object] = []
        self._group = group
        self.encoded = 0

    def decode(self, tokens: Sequence[int], outputs: Outputs = "all") -> Rows:
        assert min(tokens) >= 0
        start, count = len(self.tokens), len(tokens)
        size = self._group or count
        self.origins += [(start + i // size * size, min(count, (i // size + 1) * size) + start) for i in range(count)]
        self.tokens += tokens
        return np.zeros((1, 4), np.float32)

    def decode_media(self, cells: Sequence[int], embeddings: Rows, *, causal: bool) -> None:
        assert max(cells) < 0
        assert len(embeddings) == len(cells)
        self.encoded += 1
        self.origins += [("media", len(self.tokens))] * len(cells)
        self.tokens += cells

    def rewind(self, length: int) -> None:
        assert whole(self.tokens, length) == length, "a picture is cut"
        del self.tokens[length:]
        del self.origins[length:]

    def reach(self, length: int) -> int:
        return length

    def mark(self, *, brief: bool = False) -> None:
        """Nothing: every token can be taken back."""

    def hidden(self) -> Rows:
        raise NotImplementedError

    def identity(self) -> str:
        raise NotImplementedError

    def state(self) -> bytes:
        raise NotImplementedError

    def restore(self, state: bytes, tokens: Sequence[int]) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


def fill(context: Cells, prefill: Prefill, tokens: list[int]) -> int:
    spans = [run for run in runs(tokens) if tokens[run.start] < 0]
    media = {tokens[run.start]: Piece(len(run)) for run in spans}

    def run() -> Generator[Pass | int, Rows, None]:
        _, cached = yield from prefill.run(context, tokens, None, media)
        yield cached

    (found,) = drive(context, run())
    assert context.tokens == tokens
    return found


@given(st.lists(st.tuples(PROMPTS, st.integers(1, 130)), min_size=2, max_size=4), st.sampled_from([64, 256]), st.data())
@settings(max_examples=150, deadline=None)
def test_cells_are_those_of_a_fresh_prefill(
    prompts: list[tuple[list[tuple[str, int]], int]], chunk: int, data: st.DataObject
) -> None:
    """Whatever was cached before, beside pictures too: each cell comes from the same pass or group of rows."""
    group = None if chunk == 256 else CHUNK
    context, prefill = Cells(group), Prefill(256, chunk)
    for parts, ending in prompts:
        prefill.shared = data.draw(st.booleans()) if chunk == CHUNK else False
        tokens = tokens_of(parts, ending)
        fill(context, prefill, tokens)
        fresh = Cells(group)
        fill(fresh, Prefill(256, chunk), tokens)
        assert context.origins[: len(tokens)] == fresh.origins
        context.decode([1, 2, 3])  # an answer


@given(PROMPTS, st.integers(1, 130), st.sampled_from([1, 64, 256]))
@settings(max_examples=60, deadline=None)
def test_a_picture_is_decoded_once(parts: list[tuple[str, int]], ending: int, chunk: int) -> None:
    """A prompt that goes on behind it reuses its cells; one with another picture does not."""
    context, prefill = Cells(CHUNK), Prefill(256, chunk)
    first = tokens_of([*parts, ("text", 20), ("cat", 70)], ending)
    fill(context, prefill, first)
    before = context.encoded
    cached = fill(context, prefill, [*first, *[98] * 30])
    assert context.encoded == before
    assert cached >= len(first) - ending
    fill(context, prefill, tokens_of([*parts, ("text", 20), ("dog", 70)], ending))
    assert context.encoded == before + 1
