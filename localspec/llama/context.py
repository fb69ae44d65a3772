"""A context of llama.cpp as :class:`localspec.protocols.Context`: one sequence of tokens, its cache and its logits.

It refuses everything on which llama.cpp would abort the process. One thread drives a context at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from copy import copy
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from localspec.errors import BackendError
from localspec.gguf.types import FLOAT_NUMBERS
from localspec.llama.binding import build_id, lib
from localspec.llama.hidden_rows import HiddenRows
from localspec.llama.layer_inputs import LayerInputs
from localspec.llama.model import LlamaModel
from localspec.llama.native import context_options, hidden_view, open_native, tiled_kernels
from localspec.llama.recurrent import RecurrentState
from localspec.llama.rows import RowView
from localspec.llama.saved_cells import add_checkpoint, is_state_of, split_checkpoint
from localspec.params import ContextParams
from localspec.protocols import UNBOUNDED, Outputs, Rows, output_rows

if TYPE_CHECKING:
    from typing_extensions import Self


class LlamaContext:
    """One sequence in one model's cache; see :class:`localspec.protocols.Context`.

    With ``hidden=True`` every output row also has its hidden row, which an MTP assistant reads. With ``keeps_rows``
    those of all tokens are kept, for prediction heads; with ``input_layers`` the inputs of these layers in their place.
    """

    def __init__(
        self,
        model: LlamaModel,
        params: ContextParams,
        n_ctx: int,
        *,
        hidden: bool = False,
        keeps_rows: bool = False,
        input_layers: Sequence[int] = (),
        sequences: int = 1,
    ) -> None:
        """``sequences``: how many the cache has room for. This is the first, and :meth:`neighbour` gives the others."""
        self.model, self.n_ctx = model, n_ctx
        self.batch = params.batch
        self.options = context_options(model, params, n_ctx, sequences)
        #: Most tokens of text in one pass. llama.cpp cuts longer ones, where no picture needs more.
        self.pass_width = params.pass_width(gpu=model.placement.gpu)
        #: Most cells of a picture in one pass.
        self.media_cells = int(self.options.n_ubatch)
        n_hidden, n_batch = model.n_embd if hidden else 0, int(self.options.n_batch)
        self._native = open_native(model, self.options, n_batch, n_ctx, n_hidden=n_hidden, fast=params.fast)
        self._width = params.verify_width
        self._device, self._repack = params.device, params.repack
        self.rollback = UNBOUNDED if model.can_rewind else 0
        self._keeps_states = not model.can_rewind and model.remote is None
        if self._keeps_states:
            self.rollback = int(lib.llama_n_rs_seq(self.handle))
        self._every: RowView | LayerInputs | None = None
        if input_layers:
            self._every = LayerInputs(self.handle, model.n_embd, input_layers)
        elif keeps_rows:
            self._every = hidden_view(self.handle, model.n_embd, outputs=False)
        self._kept_width = model.n_embd * max(1, len(input_layers))
        self._begin(0)

    def _begin(self, sequence: int) -> None:
        """Set what every sequence has for itself."""
        self.sequence, self.decode_s = sequence, 0.0
        self.tokens: list[int] = []
        #: The last passes whose rows were all outputs: tokens and seconds.
        self.passes: deque[tuple[int, float]] = deque(maxlen=256)
        #: The outputs of the last pass: how many, and their place among those of its other sequences.
        self._n_out = self._first_out = 0
        #: Lengths below this cannot be rewound to: the cells are missing from a restored sliding-window cache.
        self._shortest = 0
        #: True while the cache may hold more than ``tokens``, after an interrupt or an error.
        self._unfinished = False
        keeps = self._keeps_states
        self._recurrent = RecurrentState(self._native, sequence, self.rollback) if keeps else None
        #: Hidden rows of the tokens, where they are kept.
        self.kept_rows = HiddenRows(self._kept_width)

    def neighbour(self, sequence: int) -> Self:
        """Another sequence in the same cache, which is freed with it."""
        made = copy(self)
        made._begin(sequence)
        return made

    @property
    def handle(self) -> Any:
        return self._native.handle

    @property
    def float_keys(self) -> bool:
        """True if attention may compute several rows of a sequence at once: sums then depend on their number."""
        return self.options.type_k in FLOAT_NUMBERS

    @property
    def threads(self) -> int:
        """Threads of the next pass."""
        return self._native.threads

    def settings(self) -> str:
        """Text of all settings that may change a row of logits."""
        options, placement = self.options, self.model.placement
        names = ("type_k", "type_v", "flash_attn_type", "swa_full")
        found = [f"n_threads={options.n_threads}", f"n_ubatch={self.pass_width}"]
        found += [f"{name}={getattr(options, name)}" for name in names]
        found += [f"rollback={self.rollback}"] if self._recurrent else []
        found += [f"layers={placement.layers}", f"gpu={placement.gpu}", f"device={self._device}"]
        if placement.split is not None:
            found += [f"split={placement.split.remote} {placement.split.link}"]
        return " ".join([*found, f"tiled={tiled_kernels()}", f"repack={self._repack}"])

    def adapt_threads(self, adaptive: bool) -> None:
        """Use fewer threads while other programs use the CPU, or all threads again. No bit of a row changes."""
        self._native.adapt_threads(adaptive)

    def identity(self) -> str:
        """Text that must be equal for :meth:`restore`: the build, the settings, the size."""
        return f"{build_id()} {self.settings()} n_ctx={self.n_ctx}"

    def decode(self, tokens: Sequence[int], outputs: Outputs = "all") -> Rows:
        self._settle()
        n, start = len(tokens), len(self.tokens)
        if not 0 < n <= self.batch or start + n > self._native.cells:
            raise BackendError(f"cannot decode {n} tokens at {start}: batch {self.batch}, cells {self._native.cells}.")
        self._n_out = output_rows(outputs, n)
        if self._n_out > self._width:
            raise BackendError(f"cannot give {n} rows at once; the verify width is {self._width}.")
        began = perf_counter()
        self._unfinished = True
        self._first_out = 0
        self._native.fill(tokens, start, self._n_out, self.sequence)
        self._run(tokens)
        rows = self._native.rows(self._n_out)
        if self.model.vocabulary.suppressed.size:  # tokens that the model's file forbids
            rows[:, self.model.vocabulary.suppressed] = -np.inf
        seconds = perf_counter() - began
        self.decode_s += seconds
        if self._n_out == n:
            self.passes.append((n, seconds))
        self._finish(tokens)
        return rows

    def _keep_rows(self, n: int, at: int = 0) -> None:
        """Keep the hidden rows of the ``n`` tokens of the last pass that begin at row ``at``."""
        if self._every is not None:
            self.kept_rows.add(len(self.tokens), self._every.rows(self.handle, at + n)[at:])

    def _settle(self) -> None:
        """Bring the cache to ``tokens`` after an interrupt, and carry out a rewind that was only noted."""
        if self._unfinished:
            self.rewind(len(self.tokens))
        if self._recurrent is not None:
            self._recurrent.settle(len(self.tokens))

    def _finish(self, tokens: Sequence[int], *, kept: bool = True) -> None:
        """Note a pass of ``tokens``, of which hidden rows may be ``kept``."""
        if kept:
            self._keep_rows(len(tokens))
        self.tokens.extend(tokens)
        if self._recurrent is not None:
            self._recurrent.decoded(len(self.tokens), len(tokens))
        self._unfinished = False

    def _run(self, tokens: Sequence[int]) -> None:
        self._native.run(len(tokens))

    def decode_media(self, cells: Sequence[int], embeddings: Rows, *, causal: bool) -> None:
        self._settle()
        n, start = len(cells), len(self.tokens)
        width = self.pass_width if causal else n
        if not 0 < n <= (n if causal else self.media_cells) or start + n > self._native.cells:
            raise BackendError(
                f"cannot decode {n} cells of a picture or sound at {start}: {self.media_cells} in one pass, "
                f"cells {self._native.cells}."
            )
        began = perf_counter()
        self._unfinished = True
        self._n_out = self._first_out = 0
        for at in range(0, n, width):
            rows = embeddings[at : at + width]
            self._native.fill([0] * len(rows), start + at, 0, self.sequence)
            self._native.run_embedded(len(rows), rows, causal=causal)
        self.decode_s += perf_counter() - began
        self._finish(cells, kept=False)

    def hidden(self) -> Rows:
        first = self._first_out
        return self._native.hidden(first + self._n_out)[first:]

    def rewind(self, length: int) -> None:
        """Remove everything from position ``length`` on, or more where that is impossible.

        A recurrent state goes back to the last checkpoint (see :mod:`localspec.llama.recurrent`), and a restored
        sliding-window cache cannot go back far. The caller looks at ``tokens`` for the outcome.
        """
        if length >= len(self.tokens) and not self._unfinished:
            return
        self.kept_rows.cut(length)
        if self._recurrent is not None:
            if self._unfinished:
                self._recurrent.lost()
            self._unfinished = True
            del self.tokens[self._recurrent.rewind(min(length, len(self.tokens))) :]
            self._unfinished = False
            return
        self._unfinished = True  # an interrupt from here on leaves more in the cache than in tokens, never less
        if length < self._shortest:
            length = self._shortest = 0
        del self.tokens[length:]
        if not self._native.remove(self.sequence, length):
            self.tokens.clear()
            if self.options.n_seq_max == 1:
                self._native.clear()
            else:
                self._native.remove(self.sequence, -1)
            self._shortest = 0
        self._unfinished = False

    def reach(self, length: int) -> int:
        return length if self._recurrent is None else self._recurrent.reach(length)

    def mark(self, *, brief: bool = False) -> None:
        if self._recurrent is not None:
            began = perf_counter()
            self._settle()
            self._recurrent.mark(len(self.tokens), brief=brief)
            self.decode_s += perf_counter() - began

    def state(self) -> bytes:
        """The cache as bytes, for :meth:`restore` in a context of the same model and :meth:`identity`."""
        self._settle()
        found = self._native.state(self.sequence)
        if not found:
            raise BackendError("llama.cpp could not save the cache; there may not be enough memory.")
        if not is_state_of(found, len(self.tokens)):
            raise BackendError("this model's cache is of a kind that cannot be saved.")
        marked = self._recurrent.newest if self._recurrent else None
        return add_checkpoint(found, marked.length, bytes(marked.state)) if marked else found

    def restore(self, state: bytes, tokens: Sequence[int]) -> None:
        """Replace the cache by a saved ``state``, which holds ``tokens``.

        Of a sliding window llama.cpp saves only the cells that the last token sees. Such a cache can be rewound by one
        token at most. A recurrent state can return to the checkpoint that was saved with it.
        """
        state, marked, checkpoint = split_checkpoint(state)
        self.tokens.clear()
        self.kept_rows.cut(0)
        self._shortest, self._unfinished = 0, True  # until all of it is there
        fits = len(tokens) <= self.n_ctx and is_state_of(state, len(tokens))
        fits = fits and (not marked or (marked <= len(tokens) and is_state_of(checkpoint, marked)))
        if not fits or self._native.set_state(self.sequence, state) != len(state):
            raise BackendError(f"the saved cache of {len(tokens)} tokens does not fit this model and context.")
        if self._recurrent is not None:
            self._recurrent.replaced(len(tokens), marked, checkpoint)
        elif self._native.first_position(self.sequence) > 0:
            self._shortest = len(tokens) - 1
        self.tokens.extend(tokens)
        self._unfinished = False

    def close(self) -> None:
        self._native.close()
