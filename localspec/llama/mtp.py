"""The context of a Gemma 4 MTP assistant, which reads the target's cache."""

from __future__ import annotations

import ctypes
from copy import copy
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localspec.llama.binding import set_fields
from localspec.llama.context import LlamaContext
from localspec.llama.model import LlamaModel
from localspec.llama.native import context_options, open_native
from localspec.params import ContextParams
from localspec.protocols import Rows

#: llama.cpp's LLAMA_CONTEXT_TYPE_MTP.
_CONTEXT_MTP = 1
#: Most tokens of a pass; an assistant decodes one at a time.
_BATCH = 32


class LlamaMtpContext:
    """An assistant's context on another context's cache; see :class:`localspec.protocols.MtpContext`.

    Make it before the target is prefilled: making it resets the target's cells. It never clears or rewinds anything,
    because the memory is the target's.
    """

    def __init__(self, model: LlamaModel, params: ContextParams, target: LlamaContext) -> None:
        self.decode_s = 0.0
        sequences = int(target.options.n_seq_max)
        options = context_options(model, params, target.n_ctx, sequences)
        rows = dict.fromkeys(("n_batch", "n_ubatch"), max(_BATCH, sequences))
        set_fields(options, ctx_type=_CONTEXT_MTP, n_outputs_max=sequences, **rows)
        for name in ("type_k", "type_v", "flash_attn_type", "swa_full"):
            setattr(options, name, getattr(target.options, name))
        self.model, self._target, self._sequence = model, target, target.sequence
        width, beside = target.model.n_embd, target._native
        self._native = open_native(
            model, options, _BATCH, target.n_ctx, n_hidden=width, fast=params.fast, beside=beside
        )
        self._input = np.zeros(target.model.n_embd, np.float32)
        self._pointer = self._input.ctypes.data_as(ctypes.POINTER(ctypes.c_float))

    def neighbour(self, sequence: int) -> LlamaMtpContext:
        """The same for another sequence of the target."""
        made = copy(self)
        made._sequence, made.decode_s = sequence, 0.0
        return made

    def step(self, token: int, position: int, hidden: NDArray[Any]) -> Rows:
        began = perf_counter()
        self._input[:] = hidden
        self._native.fill((token,), position, 1, self._sequence)
        self._native.run(1, embd=self._pointer)
        rows = self._native.rows(1)
        self.decode_s += perf_counter() - began
        return rows

    def adapt_threads(self, adaptive: bool) -> None:
        """Use fewer threads while other programs use the CPU, or all threads again. No bit of a row changes."""
        self._native.adapt_threads(adaptive)

    def hidden(self) -> Rows:
        return self._native.hidden(1)

    def close(self) -> None:
        self._native.close()
