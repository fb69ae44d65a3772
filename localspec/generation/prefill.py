"""Prefill: decode what a cache lacks of a prompt, such that the cells do not depend on what was cached before."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from localspec.generation.loop import Pass
from localspec.protocols import Context, Rows, common_length
from localspec.types import Progress

#: Most tokens of a prefill pass where nothing is known of the backend.
_WIDTH = 512


class Prefill:
    """The prefill of one target.

    Cells may depend on the passes that computed them (see :mod:`localspec.probe.batch_invariance`). A prompt is
    therefore cut into chunks of ``chunk`` tokens. Passes over whole chunks compute the same cells however many chunks
    they have; the rest of the prompt, up to one chunk, has a pass of its own. So whole chunks of earlier prompts are
    reused, and generated tokens are decoded again. With ``chunk`` 1 the passes do not matter, and everything cached is
    reused.
    """

    def __init__(self, width: int = _WIDTH, chunk: int = 1) -> None:
        """``width``: most tokens of a pass, at least ``chunk``."""
        self.chunk, self._width = chunk, width - width % chunk
        #: Tokens at the beginning of the cache that prefill passes computed.
        self.prefilled = 0

    def run(
        self, target: Context, tokens: Sequence[int], progress: Progress | None = None
    ) -> Generator[Pass, Rows, tuple[Rows, int]]:
        """Decode ``tokens``. Returns the last token's logits (1, n_vocab) and the number of tokens reused.

        The last token is always decoded, for its logits.
        """
        count = len(tokens)
        rest = (count - 1) // self.chunk * self.chunk
        target.rewind(min(self._reusable(target.tokens, tokens), rest))
        cached = self.prefilled = len(target.tokens)
        while self.prefilled < count:
            start = self.prefilled
            if progress is not None:
                progress(start - cached, count - cached)
            end = min(start + self._width, rest if start < rest and self.chunk > 1 else count)
            rows = yield Pass(tokens[start:end], "last" if end == count else "none")
            self.prefilled = end
        return rows, cached

    def restore(self, cached: int, chunk: int, prefilled: int) -> int:
        """Take over a restored cache of ``cached`` tokens, of which passes over chunks of ``chunk`` prefilled some.

        Returns the number of tokens that can be reused.
        """
        self.prefilled = prefilled if chunk == self.chunk else 0
        return cached if self.chunk == 1 else self.prefilled // self.chunk * self.chunk

    def _reusable(self, cached: Sequence[int], tokens: Sequence[int]) -> int:
        common = common_length(cached, tokens)
        return common if self.chunk == 1 else min(common, self.prefilled) // self.chunk * self.chunk
