"""The context of a trimmed drafter: tokens go in as embeddings, and what the head reads comes out beside the logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from localspec.llama.binding import bindings
from localspec.llama.context import LlamaContext, get_embeddings
from localspec.llama.model import LlamaModel
from localspec.llama.rows import RowView
from localspec.params import ContextParams
from localspec.protocols import Outputs, Rows, output_rows

#: llama.cpp gives the head's inputs of all rows of a pass or of none. Up to so many rows all are computed, where few
#: are wanted: a row of a trimmed head costs little. More are decoded in two passes.
_ALL = 16


class LlamaTrimmedContext(LlamaContext):
    """A :class:`LlamaContext` that takes tokens outside its model's vocabulary: ``inputs`` gives their embeddings.

    ``inputs``: n tokens → shape (n, n_embd). A row has a logit for each token of the model's own vocabulary.
    """

    def __init__(
        self, model: LlamaModel, params: ContextParams, n_ctx: int, inputs: Callable[[Sequence[int]], Rows]
    ) -> None:
        super().__init__(model, params, n_ctx)
        self._inputs = inputs
        self._head_inputs = RowView(get_embeddings, model.n_embd, "what its head reads; convert it again")

    def decode(self, tokens: Sequence[int], outputs: Outputs = "all") -> Rows:
        wanted = output_rows(outputs, len(tokens))
        if wanted == 0 or wanted == len(tokens):
            return super().decode(tokens, outputs)
        if len(tokens) <= min(_ALL, self._width):
            return super().decode(tokens, "all")[len(tokens) - wanted :]
        super().decode(tokens[:-wanted], "none")
        return super().decode(tokens[-wanted:], "all")

    def hidden(self) -> Rows:
        """What the head read for each row of the last pass, the wanted ones last: shape (rows, n_embd)."""
        return self._head_inputs.rows(self.handle, self._n_out)

    def _run(self, tokens: Sequence[int]) -> None:
        bindings().llama_set_embeddings(self.handle, self._n_out > 0)
        self._core.run_embedded(len(tokens), self._inputs(tokens))
