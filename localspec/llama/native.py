"""llama.cpp's context with one batch that is reused: passes in, rows out."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np

from localspec.errors import BackendError, MissingFeatureError
from localspec.gguf.types import FLOAT_NUMBERS, TYPE_NUMBERS
from localspec.llama.abort import ABORTED, AbortedError
from localspec.llama.binding import (
    address_getter,
    clear_errors,
    first_error,
    free_with,
    lib,
    set_fields,
    staging_function,
)
from localspec.llama.host import default_threads
from localspec.llama.model import LlamaModel
from localspec.llama.passes import BatchPart, Native
from localspec.llama.rows import RowView, check_finite
from localspec.llama.threads import FREE_CPUS, thread_count
from localspec.models.drafter_kinds import HEADS
from localspec.params import ContextParams
from localspec.protocols import Rows

_F16, _Q8_0 = TYPE_NUMBERS["F16"], TYPE_NUMBERS["Q8_0"]
#: llama.cpp's values for flash attention where the device supports it, and always.
_FLASH_AUTO, _FLASH_ON = -1, 1
#: Models below this many bytes run on one thread by default: a pass takes less time than threads take to meet.
_SMALL = 64 * 2**20
#: Elements of a block of Q8_0, which a key must consist of.
_BLOCK = 32
_CLOSED = "the context was closed; load the model again."

_get_logits = address_getter(lib.llama_get_logits)


@cache
def _tiled() -> bool:
    """Whether llama.cpp uses its tiled kernels. It reads the variable once, at the first decode of the process."""
    return os.environ.get("GGML_CPU_TILED_MM") != "0"


def tiled_kernels() -> bool:
    """Whether the next pass uses llama.cpp's tiled kernels, whatever a model was loaded with."""
    return _tiled() if _tiled.cache_info().currsize else _tiled.__wrapped__()


def open_native(
    model: LlamaModel,
    options: Any,
    n_batch: int,
    n_ctx: int,
    *,
    n_hidden: int = 0,
    fast: bool = False,
    beside: Native | None = None,
) -> Native:
    """Make a context where the model is loaded. ``beside``: another one, whose cache it reads.

    ``options``: see :func:`context_options`. ``n_ctx`` is for messages. ``n_hidden``: width of the hidden rows, 0 for
    none. ``fast``: the number of threads may change although rows depend on it.
    """
    if model.remote is not None:
        return model.remote.open(model, options, n_batch, n_ctx, n_hidden=n_hidden, fast=fast, beside=beside)
    if beside is not None:
        set_fields(options, ctx_other=beside.handle)
    return NativeContext(model, options, n_batch, n_ctx, n_hidden=n_hidden, fast=fast)


class NativeContext:
    """A ``llama_context`` and a ``llama_batch`` that is written through numpy views; see :class:`Native`."""

    def __init__(
        self, model: LlamaModel, options: Any, n_batch: int, n_ctx: int, *, n_hidden: int = 0, fast: bool = False
    ) -> None:
        clear_errors()
        handle = lib.llama_init_from_model(model.handle, options)
        if not handle:
            raise BackendError(
                f"llama.cpp cannot make a context of {n_ctx} tokens for {model.path.name}: {first_error()}. "
                "Try a smaller --ctx-size."
            )
        _choose_rows(handle, model)
        self._handle = handle
        self.threads = self._most_threads = int(options.n_threads)
        #: True if the number may change. No row depends on it, but attention over float keys splits its sums by thread.
        self._any_threads = fast or options.type_k not in FLOAT_NUMBERS
        self._adaptive = False
        self._model, self._n_embd = model, model.n_embd  # a context must not outlive its model
        #: Cells of each sequence.
        self.cells = int(lib.llama_n_ctx_seq(handle))
        self._batch = lib.llama_batch_init(n_batch, 0, 1)
        self._free = free_with(self, _free_context, handle, self._batch)
        view = np.ctypeslib.as_array
        self._token, self._pos = (view(a, (n_batch,)) for a in (self._batch.token, self._batch.pos))
        self._token_pointer = ctypes.cast(self._batch.token, type(self._batch.token))  # a copy, not a view of the field
        self._flag = view(self._batch.logits, (n_batch,))
        view(self._batch.n_seq_id, (n_batch,))[:] = 1
        self._sequence_of = [self._batch.seq_id[i] for i in range(n_batch)]
        for pointer in self._sequence_of:
            pointer[0] = 0
        #: Sequence of each row of the batch.
        self._rows_of = [0] * n_batch if options.n_seq_max > 1 else []
        self._positions = np.arange(self.cells + n_batch, dtype=np.int32)
        self._logits = RowView(_get_logits, model.n_vocab, "logits; this model cannot generate")
        self._hidden = hidden_view(handle, n_hidden) if n_hidden else None

    @property
    def handle(self) -> Any:
        if self._handle is None:
            raise BackendError(_CLOSED)
        return self._handle

    @property
    def memory(self) -> Any:
        return lib.llama_get_memory(self.handle)

    def fill(self, tokens: Sequence[int], start: int, n_out: int, sequence: int = 0) -> None:
        n = len(tokens)
        if self._handle is None:
            raise BackendError(_CLOSED)  # the arrays behind the views are freed
        self._batch.n_tokens = n
        self._token[:n] = tokens
        self._pos[:n] = self._positions[start : start + n]
        self._flag[: n - n_out] = 0
        self._flag[n - n_out : n] = 1
        if self._rows_of:
            self._assign(0, n, sequence)

    def fill_neighbours(self, first: int, parts: Sequence[BatchPart]) -> int:
        if self._handle is None:
            raise BackendError(_CLOSED)
        at, width = 0, len(parts[0].tokens)
        for sequence, part in enumerate(parts, first):
            self._token[at : at + width] = part.tokens
            self._pos[at : at + width] = self._positions[part.start : part.start + width]
            self._flag[at : at + width] = 0
            self._flag[at + part.outputs.start : at + part.outputs.stop] = 1
            self._assign(at, width, sequence)
            at += width
        self._batch.n_tokens = at
        return at

    def _assign(self, at: int, n: int, sequence: int) -> None:
        """Give ``n`` rows of the batch to a sequence."""
        known = self._rows_of
        for row in range(at, at + n):
            if known[row] != sequence:
                self._sequence_of[row][0] = known[row] = sequence

    def adapt_threads(self, adaptive: bool) -> None:
        self._adaptive = adaptive and self._any_threads and self._most_threads > 1
        if self._adaptive:
            FREE_CPUS.count()  # begins to count
        else:
            self._set_threads(self._most_threads)

    def _set_threads(self, threads: int) -> None:
        if threads != self.threads:
            lib.llama_set_n_threads(self.handle, threads, threads)
            self.threads = threads

    def run(self, n: int, embd: Any = None) -> None:
        if self._adaptive:
            self._set_threads(thread_count(self._most_threads, self.threads, FREE_CPUS.count()))
        _tiled()
        clear_errors()
        self._batch.embd = embd
        code = lib.llama_decode(self.handle, self._batch)
        self._batch.embd = None  # the array is not llama.cpp's to free
        if code != 0:
            if code == ABORTED:
                raise AbortedError
            raise BackendError(f"llama.cpp failed to decode {n} tokens (code {code}): {first_error()}.")

    def run_embedded(self, n: int, inputs: Rows, *, causal: bool = True) -> None:
        values = np.ascontiguousarray(inputs, np.float32)
        if values.shape != (n, self._n_embd):
            raise BackendError(f"embeddings of shape {values.shape} were given for {n} tokens of width {self._n_embd}.")
        self._batch.token = None
        lib.llama_set_causal_attn(self.handle, causal)
        try:
            self.run(n, embd=values.ctypes.data_as(ctypes.POINTER(ctypes.c_float)))
        finally:
            self._batch.token = self._token_pointer  # it is freed with the batch
            lib.llama_set_causal_attn(self.handle, True)

    def rows(self, n: int) -> Rows:
        found = self._logits.rows(self.handle, n)
        check_finite(found, self._model.path.name)
        return found

    def hidden(self, n: int) -> Rows:
        if self._hidden is None:
            raise BackendError("this context was made without hidden rows; make it with hidden=True.")
        return self._hidden.rows(self.handle, n)

    def remove(self, sequence: int, first: int) -> bool:
        return bool(lib.llama_memory_seq_rm(self.memory, sequence, first, -1))

    def clear(self) -> None:
        lib.llama_memory_clear(self.memory, True)

    def copy(self, source: int, target: int) -> None:
        lib.llama_memory_seq_cp(self.memory, source, target, -1, -1)

    def state(self, sequence: int) -> bytes:
        size = int(lib.llama_state_seq_get_size(self.handle, sequence))
        buffer = (ctypes.c_uint8 * size)()
        written = int(lib.llama_state_seq_get_data(self.handle, buffer, size, sequence))
        return bytes(memoryview(buffer)[:written])

    def set_state(self, sequence: int, state: bytes) -> int:
        buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        return int(lib.llama_state_seq_set_data(self.handle, buffer, len(state), sequence))

    def first_position(self, sequence: int) -> int:
        return int(lib.llama_memory_seq_pos_min(self.memory, sequence))

    def close(self) -> None:
        self._handle = None
        self._free()


def _free_context(handle: Any, batch: Any) -> None:
    lib.llama_free(handle)
    batch.embd = None  # an interrupt may have left a pointer to a numpy array
    lib.llama_batch_free(batch)


def _choose_rows(handle: Any, model: LlamaModel) -> None:
    """Compute the last layer of a pass for its outputs alone, as contexts with hidden rows do.

    Gemma 4's graph would compute it for all rows. Where rows depend on their number, the logits behind a prompt would
    then depend on whether an assistant is loaded. Prediction heads read the rows of all tokens, so architectures that
    may have some always compute them all.
    """
    every = model.header.architecture in HEADS
    with suppress(MissingFeatureError):  # without it there is no assistant either
        staging_function("llama_set_embeddings_nextn")(handle, every, not every)


def hidden_view(handle: Any, n_embd: int, *, outputs: bool = True) -> RowView:
    """Switch hidden rows on for every output of a context, else for every token, and view them."""
    staging_function("llama_set_embeddings_nextn")(handle, True, outputs)
    get = address_getter(staging_function("llama_get_embeddings_nextn"))
    return RowView(get, n_embd, "hidden rows; this target cannot feed an assistant")


def context_options(model: LlamaModel, params: ContextParams, n_ctx: int, sequences: int = 1) -> Any:
    """llama_context_params for ``n_ctx`` tokens of each of some ``sequences``.

    On the CPU keys are Q8_0 and values F16, with flash attention: of the settings in which rows of a batch equal single
    rows bit for bit, the fastest. On a GPU both are F16, with whatever the device supports. The user may choose other
    types; quantised values need flash attention. With ``fast`` both are F16 on the CPU too, as in llama-server: wide
    passes then have attention in tiles. The cache has ``verify_width`` more cells than ``n_ctx``, so that a last draft
    can be verified in a full context. Each sequence has cells of its own, which therefore stay in the order of their
    positions: the sums of attention follow that order. Where the architecture can do it, recurrent states are kept for
    ``rollback`` tokens of a pass; ``llama_n_rs_seq`` tells.
    """
    gpu = model.placement.gpu
    threads = params.threads or (1 if model.n_bytes < _SMALL else default_threads())
    exact = not (gpu or params.fast) and all(size % _BLOCK == 0 for size in model.key_lengths)
    keys = _type_number(params.cache_type_k, _Q8_0 if exact else _F16)
    values = _type_number(params.cache_type_v, _F16)
    quantised = values not in FLOAT_NUMBERS
    return set_fields(
        lib.llama_context_default_params(),
        n_ctx=sequences * (n_ctx + params.verify_width),
        n_batch=max(params.batch, params.media_cells),
        n_ubatch=params.rows(gpu=gpu),
        n_seq_max=sequences,
        n_rs_seq=0 if model.can_rewind or model.remote else min(params.rollback, params.pass_width(gpu=gpu) - 2),
        kv_unified=False,
        n_outputs_max=params.verify_width,
        n_threads=threads,
        n_threads_batch=threads,
        type_k=keys,
        type_v=values,
        flash_attn_type=_FLASH_AUTO if gpu and not quantised else _FLASH_ON,
        swa_full=True,
        no_perf=True,
    )


def _type_number(name: str | None, default: int) -> int:
    """ggml's number of a cache type."""
    return default if name is None else TYPE_NUMBERS[name.upper()]
