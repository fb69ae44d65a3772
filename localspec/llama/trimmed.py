"""The context of a trimmed drafter: tokens go in as embeddings, and the head's inputs come out beside the logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from localspec.llama.binding import address_getter, lib
from localspec.llama.context import LlamaContext
from localspec.llama.model import LlamaModel
from localspec.llama.rows import RowView
from localspec.params import ContextParams
from localspec.protocols import Outputs, Rows, output_rows

#: llama.cpp gives the head's inputs of all rows of a pass or of none. In a pass of up to this many tokens all rows are
#: outputs, also where few are wanted, because a row of a trimmed head costs little. A wider pass is split in two.
_MAX_ALL_ROWS = 16

_get_embeddings = address_getter(lib.llama_get_embeddings)


class LlamaTrimmedContext(LlamaContext):
    """A :class:`LlamaContext` that takes tokens outside its model's vocabulary: ``inputs`` gives their embeddings.

    ``inputs``: n tokens → shape (n, n_embd). A row has a logit for each token of the model's own vocabulary.
    """

    def __init__(
        self,
        model: LlamaModel,
        params: ContextParams,
        n_ctx: int,
        inputs: Callable[[Sequence[int]], Rows],
        sequences: int = 1,
    ) -> None:
        super().__init__(model, params, n_ctx, sequences=sequences)
        self._inputs = inputs
        self._head_inputs = RowView(_get_embeddings, model.n_embd, "what its head reads; convert it again")

    def decode(self, tokens: Sequence[int], outputs: Outputs = "all") -> Rows:
        wanted = output_rows(outputs, len(tokens))
        if wanted == 0 or wanted == len(tokens):
            return super().decode(tokens, outputs)
        if len(tokens) <= min(_MAX_ALL_ROWS, self._width):
            return super().decode(tokens, "all")[len(tokens) - wanted :]
        super().decode(tokens[:-wanted], "none")
        return super().decode(tokens[-wanted:], "all")

    def hidden(self) -> Rows:
        """The head's inputs for each row of the last pass, the wanted ones last: shape (rows, n_embd)."""
        return self._head_inputs.rows(self.handle, self._n_out)

    def _run(self, tokens: Sequence[int]) -> None:
        lib.llama_set_embeddings(self.handle, self._n_out > 0)
        self._native.run_embedded(len(tokens), self._inputs(tokens))
