"""The context of prediction heads: layers behind the target's that read its hidden rows and have their own cache.

A cell at position p comes from the token there and the hidden row at p − 1; its row predicts the token at p + 1. As in
llama.cpp's ``common_speculative_impl_draft_mtp`` (``common/speculative.cpp``). An EAGLE-3 head makes its row of the
inputs of three layers, and counts its positions from the second token on (``…_draft_eagle3``).
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from copy import copy
from time import perf_counter

import numpy as np

from localspec.errors import BackendError
from localspec.gguf.header import GgufHeader
from localspec.llama.binding import lib, set_fields, staging_function
from localspec.llama.context import LlamaContext
from localspec.llama.layer_inputs import LayerEncoder
from localspec.llama.model import LlamaModel
from localspec.llama.native import NativeContext, context_options
from localspec.models.eagle import is_eagle
from localspec.params import ContextParams
from localspec.protocols import Rows

#: llama.cpp's LLAMA_CONTEXT_TYPE_MTP.
_CONTEXT_MTP = 1
#: Rows of layers' inputs that are encoded at once. llama.cpp keeps a row of logits for each of them.
_ENCODED = 32


class LlamaHeadContext:
    """A context of the heads in ``model``, the target's or one of their own; see :class:`protocols.HeadContext`.

    The target keeps hidden rows, or inputs of the layers that an EAGLE-3 head reads.

    Several heads make a chain: each predicts the token after that of the one before it, and has cells of its own.
    """

    def __init__(self, model: LlamaModel, params: ContextParams, target: LlamaContext) -> None:
        sequences = int(target.options.n_seq_max)
        options = context_options(model, params, target.n_ctx, sequences)
        eagle = is_eagle(model.header)
        set_fields(options, ctx_other=target.handle, n_rs_seq=0, n_outputs_max=_ENCODED if eagle else sequences)
        if not eagle:
            set_fields(options, ctx_type=_CONTEXT_MTP)
            for name in ("type_k", "type_v", "flash_attn_type", "swa_full"):
                setattr(options, name, getattr(target.options, name))
        self.name = "eagle3" if eagle else "mtp"
        self.model, self._target = model, target
        #: Most tokens of a pass.
        self.batch = int(options.n_ubatch)
        width = model.n_embd if eagle else target.model.n_embd
        self._native = NativeContext(model, options, self.batch, target.n_ctx, n_hidden=width, fast=params.fast)
        self._encoder: LayerEncoder | None = None
        if eagle:
            most = min(_ENCODED, self.batch)
            self._encoder = LayerEncoder(self._native.handle, self._native.hidden, target.kept_rows.width, most)
        self._inputs = np.zeros((self.batch, width), np.float32)
        self._pointer = self._inputs.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        self.heads = max(1, int(lib.llama_model_n_layer_nextn(model.handle)))
        self._begin(target)

    def _begin(self, target: LlamaContext) -> None:
        self._target, self._sequence, self.decode_s = target, target.sequence, 0.0
        self._first = self._end = 0

    def neighbour(self, target: LlamaContext) -> LlamaHeadContext:
        """The same for another sequence of the target."""
        made = copy(self)
        made._begin(target)
        return made

    @property
    def n_bytes(self) -> int:
        """Bytes that a guess reads: a head, and the output matrix, which may be the target's."""
        header = self.model.header
        sizes = {tensor.name: tensor.bytes or 0 for tensor in header.tensors}
        if self._encoder is not None:
            own = self.model.n_bytes - sizes.get("token_embd.weight", 0)
            return own if "output.weight" in sizes else own + _output_bytes(self._target.model.header)
        layer = f"blk.{(header.number('block_count') or 1) - 1}."
        output = _output_bytes(header) or _output_bytes(self._target.model.header)
        return output + sum(size for name, size in sizes.items() if name.startswith(layer))

    @property
    def available(self) -> tuple[int, int]:
        rows = self._target.kept_rows
        return rows.first, rows.end

    @property
    def held(self) -> tuple[int, int]:
        return self._first, self._end

    def read(self, tokens: Sequence[int], start: int, *, goes_on: bool = True) -> Rows:
        began = perf_counter()
        if not goes_on or not self._first < start <= self._end:
            self._first = self._end = start
            self._rewind(0)
        history = tokens[:-1]
        for at in range(0, len(history), self.batch):
            part = history[at : at + self.batch]
            self._fill_rows(start + at, len(part))
            for head in range(self.heads):
                self._decode(part, start + at, 0, head)
        self._fill_rows(start + len(history), 1)
        self._decode(tokens[-1:], start + len(history), 1, 0)
        self._end = start + len(tokens)
        found = self._native.rows(1)
        self.decode_s += perf_counter() - began
        return found

    def _fill_rows(self, position: int, count: int) -> None:
        """Bring the target's rows before ``count`` tokens from ``position`` on; there is none before the first."""
        missing = 1 if position == 0 else 0
        rows = self._target.kept_rows.get(position - 1 + missing, position - 1 + count)
        if self._encoder is not None:
            self._encoder.encode(rows, self._inputs)
        else:
            self._inputs[:missing] = 0.0
            self._inputs[missing:count] = rows

    def step(self, tokens: Sequence[int], hidden: Rows) -> Rows:
        began, drafted, start = perf_counter(), len(tokens) - 1, self._end - 1
        if self.heads == 1:
            self._inputs[0] = hidden[-1]
            self._decode(tokens[-1:], start + drafted, 1, 0)
        else:
            n = len(tokens)
            self._inputs[0] = self._target.kept_rows.get(start - 1, start)[0]
            self._inputs[1:n] = hidden
            self._decode(tokens, start, 1, drafted)
        found = self._native.rows(1)
        self.decode_s += perf_counter() - began
        return found

    def hidden(self) -> Rows:
        return self._native.hidden(1)

    def _decode(self, tokens: Sequence[int], position: int, outputs: int, head: int) -> None:
        """Decode with one head, after removing what it may have at these positions."""
        if self._encoder is not None:
            if position == 0:
                tokens, position = tokens[1:], 1  # no row comes before the first token
            position -= 1
        if not tokens:
            return
        if position + len(tokens) > self._native.cells:
            raise BackendError(f"cannot draft at {position + len(tokens)}: cells {self._native.cells}.")
        self._rewind(position)
        if self.heads > 1:
            staging_function("llama_set_nextn_layer_offset")(self._native.handle, head)
        self._native.fill(tokens, position, outputs, self._sequence)
        self._native.run(len(tokens), embd=self._pointer)

    def _rewind(self, position: int) -> None:
        self._native.remove(self._sequence, position)

    def adapt_threads(self, adaptive: bool) -> None:
        """Use fewer threads while other programs use the CPU, or all threads again. No bit of a row changes."""
        self._native.adapt_threads(adaptive)

    def close(self) -> None:
        if self._encoder is not None:
            self._encoder.close()
        self._native.close()


def _output_bytes(header: GgufHeader) -> int:
    """Bytes of the matrix that makes the logits; 0 for a file that has none."""
    sizes = {tensor.name: tensor.bytes or 0 for tensor in header.tensors}
    return sizes.get("output.weight", sizes.get("token_embd.weight", 0))
