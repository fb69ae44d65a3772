"""Prefill: decode what a cache lacks of a prompt, such that the cells do not depend on what was cached before."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence

from localspec.generation.loop import Pass
from localspec.media import cells
from localspec.protocols import UNBOUNDED, Context, Piece, Rows, common_length
from localspec.types import Progress

#: Most tokens of a prefill pass where nothing is known of the backend.
_WIDTH = 512
#: Prompts are cut at multiples of this many tokens: few, so that little is decoded again, and a multiple of all groups
#: of rows that kernels work in. A constant, because a prompt's cells depend on it.
CHUNK = 64


class Prefill:
    """The prefill of one target.

    Cells may depend on the passes that computed them (see :mod:`localspec.probe.batch_invariance`). The part of a
    prompt behind its last whole chunk of :data:`CHUNK` tokens therefore has a pass of its own, and what is reused of
    earlier prompts are cells of whole chunks, up to a multiple of ``chunk`` tokens. Passes that begin there compute the
    same cells as those that began earlier. Generated tokens are decoded again. With ``chunk`` 1 the passes do not
    matter, and everything cached is reused.

    Pictures and sounds are spans of the prompt, each decoded in passes of its own and reused whole. A run of text
    beside them is treated like a prompt: its parts before its first and behind its last whole chunk have own passes.

    A recurrent state can only return to checkpoints. They are made where a conversation goes on, and at the last whole
    chunk of a prompt, because templates write the end of a prompt anew in the next one.
    """

    def __init__(self, width: int = _WIDTH, chunk: int = 1) -> None:
        """``width``: most tokens of a pass, at least :data:`CHUNK`. ``chunk``: 1, :data:`CHUNK` or ``width``."""
        self._most = width
        self.use_chunk(chunk)
        #: Tokens at the beginning of the cache that prefill passes computed, without the part behind the last chunk.
        self.prefilled = 0
        #: True while others wait for each pass: passes are as short as the cells allow.
        self.shared = False

    def use_chunk(self, chunk: int) -> None:
        """Reuse multiples of ``chunk`` tokens from now on, also of what is cached."""
        self._width = self._most - self._most % CHUNK if chunk > 1 else self._most
        self.chunk = min(chunk, self._width)

    def run(
        self,
        target: Context,
        tokens: Sequence[int],
        progress: Progress | None = None,
        media: Mapping[int, Piece] | None = None,
    ) -> Generator[Pass, Rows, tuple[Rows, int]]:
        """Decode ``tokens``. Returns the last token's logits (1, n_vocab) and the number of tokens reused.

        The last token, which is text, is always decoded, for its logits. ``media``: the pieces of its spans, by their
        first cells.
        """
        count = len(tokens)
        kept = self._kept(count) if target.rollback < UNBOUNDED else 0
        self._rewind(target, self.reusable(target.tokens, tokens))
        cached = end = self.prefilled = len(target.tokens)
        if cached >= CHUNK:
            target.mark()
        for run in cells.runs(tokens):
            piece = media[tokens[run.start]] if media and tokens[run.start] < 0 else None
            rest = self._rest(run, count)
            while end < run.stop:
                start = end
                if progress is not None:
                    progress(start - cached, count - cached)
                end = run.stop if piece else self._end(start, rest, run, kept)
                rows = yield Pass(tokens[start:end], "last" if end == count else "none", piece=piece)
                if end == kept:
                    target.mark()
                self.prefilled = end if self.chunk > 1 and run.stop < count else min(end, rest)
        return rows, cached

    def _rest(self, run: range, count: int) -> int:
        """Return where the last pass of a run begins. The row of the prompt's last token depends on its pass too."""
        return max(run.start, (run.stop - (run.stop == count)) // CHUNK * CHUNK) if self.chunk > 1 else 0

    def _kept(self, count: int) -> int:
        """Return where the checkpoint in a prompt is made."""
        step = max(CHUNK, self.chunk)
        return (count - 1) // step * step

    def _end(self, start: int, rest: int, run: range, kept: int) -> int:
        """Return the end of the pass of text at ``start``."""
        width = CHUNK if self.shared and self.chunk <= CHUNK else self._width
        if self.chunk == 1:
            return min(start + width, run.stop, kept if start < kept else run.stop)
        if start >= rest:
            return run.stop
        first = -(-run.start // CHUNK) * CHUNK
        return first if start < first else min(start + width - start % self.chunk, rest)

    def _rewind(self, target: Context, length: int) -> None:
        """Rewind to ``length``, or further to a length from which passes compute the same cells."""
        target.rewind(length)
        while len(target.tokens) < length and (rest := len(target.tokens) % self.chunk):
            target.rewind(len(target.tokens) - rest)

    def restore(self, cached: int, chunk: int, prefilled: int) -> int:
        """Take over a restored cache of ``cached`` tokens, of which a prefill with ``chunk`` computed ``prefilled``.

        Returns the number of tokens that can be reused.
        """
        self.prefilled = prefilled if chunk > 1 else 0
        return cached if self.chunk == 1 else self.prefilled // self.chunk * self.chunk

    def reusable(self, cached: Sequence[int], tokens: Sequence[int], prefilled: int | None = None) -> int:
        """Return how many ``cached`` tokens are of use for a prompt of ``tokens``: at most all but its last one.

        ``prefilled``: see :attr:`prefilled`; of the cache that is meant, this target's if left out.
        """
        return self.whole(cached, tokens, self.prefilled if prefilled is None else prefilled)

    def whole(self, tokens: Sequence[int], others: Sequence[int], prefilled: int | None = None) -> int:
        """Return how many cells of ``tokens`` are those of ``others``; ``prefilled`` of them (None: all) count."""
        common = min(common_length(tokens, others), len(others) - 1)
        if prefilled is not None and self.chunk > 1:
            common = min(common, prefilled)
        common = cells.whole(others, common)
        if self.chunk == 1:
            return common
        return max(common // self.chunk * self.chunk, cells.last_end(others, common))
