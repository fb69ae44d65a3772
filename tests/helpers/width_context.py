"""A scripted target whose cells depend on the passes that computed them, as with K-quants on a CPU."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from localspec.chat.template import ChatTemplate
from localspec.draft.base import Drafter
from localspec.engine import Engine, ModelInfo
from localspec.generation.pair import Pair, Setup
from localspec.generation.passes import PassShape
from localspec.generation.prefill import Prefill
from localspec.protocols import Outputs, Rows
from localspec.testing import CHAT_TEMPLATE, Logits, ScriptedContext, ScriptedVocabulary


class WidthContext(ScriptedContext):
    """Passes of up to ``narrow`` tokens compute the cells of single-token passes.

    In wider ones whole groups of ``group`` tokens, from the pass's first on, have cells of a second kind, and those of
    the rest depend on their number. ``group`` None: every width has cells of its own. A row depends on all cells up to
    its own and, in a wide pass, on the width of the pass. ``edge``: rows and cells of a wide pass depend on the
    number of cells that attention reads, a multiple of this.
    """

    def __init__(
        self,
        logits: Logits,
        n_vocab: int,
        *,
        narrow: int = 3,
        group: int | None = 8,
        pass_width: int = 256,
        edge: int | None = None,
    ) -> None:
        super().__init__(logits, n_vocab)
        self._narrow, self._group, self.pass_width, self._edge = narrow, group, pass_width, edge
        self._kinds: list[int] = []

    def decode(self, tokens: Sequence[int], outputs: Outputs = "all") -> Rows:
        assert len(tokens) <= self.pass_width
        rows = super().decode(tokens, outputs)
        wide = len(tokens) > self._narrow
        read = -(-len(self.tokens) // self._edge) if self._edge and wide else 0
        self._kinds += [kind + 100_000 * read for kind in self._kinds_of(len(tokens))]
        for i in range(len(rows)):
            seen = self._kinds[: len(self._kinds) - len(rows) + i + 1]
            width = len(tokens) if wide else 0
            rows[i] += _noise([*seen, width, read], rows.shape[1])
        return rows

    def _kinds_of(self, width: int) -> list[int]:
        if width <= self._narrow:
            return [0] * width
        if self._group is None:
            return [1000 + width] * width
        rest = width % self._group
        return [1] * (width - rest) + [1 + rest] * rest

    def rewind(self, length: int) -> None:
        super().rewind(length)
        del self._kinds[length:]

    def state(self) -> bytes:
        return np.array([self.tokens, self._kinds], np.int32).tobytes()

    def restore(self, state: bytes, tokens: Sequence[int]) -> None:
        found = np.frombuffer(state, np.int32).reshape(2, -1).tolist()
        assert found[0] == list(tokens)
        self.tokens[:], self._kinds[:] = found


def _noise(kinds: Sequence[int], n_vocab: int) -> Rows:
    if not any(kinds):
        return np.zeros(n_vocab, np.float32)
    seed = hashlib.sha256(bytes(str(kinds), "ascii")).digest()[:8]
    return np.random.default_rng(list(seed)).uniform(-1.0, 1.0, n_vocab).astype(np.float32)


NARROW = PassShape(3)


def width_engine(
    context: WidthContext, chunk: int, passes: PassShape = NARROW, drafters: Sequence[Drafter] = ()
) -> Engine:
    """An engine that reuses cached chunks of ``chunk`` tokens and drafts in ``passes``."""
    vocabulary = ScriptedVocabulary(context._n_vocab)
    info = ModelInfo("width", "width", "width", "width", 0, 0, context.n_ctx, vocabulary.n_tokens)  # type: ignore[arg-type]
    setup = Setup("exact", passes)
    pair = Pair(context, vocabulary, tuple(drafters), prefill=Prefill(context.pass_width, chunk))
    return Engine(pair, setup, model=info, template=ChatTemplate(CHAT_TEMPLATE))
