"""Contexts of llama.cpp: one sequence of tokens, its cache and its logits.

Everything that llama.cpp would answer with an abort of the process is checked here first. A :class:`LlamaContext` is
driven by one thread at a time.
"""

from __future__ import annotations

import ctypes
import weakref
from collections import deque
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localspec.errors import BackendError
from localspec.llama.binding import address_getter, build, fill, forget_errors, lib, staging, why
from localspec.llama.devices import default_threads
from localspec.llama.model import LlamaModel
from localspec.llama.rows import RowView, check_numbers
from localspec.llama.saved_cells import holds
from localspec.params import ContextParams
from localspec.protocols import Outputs, Rows, output_rows

F16, Q8_0 = 1, 8
_FLASH_AUTO, _FLASH_ON = -1, 1
_CONTEXT_MTP = 1
#: Models below this many bytes run on one thread by default: a pass takes less time than threads take to meet.
_SMALL = 64 * 2**20
_CLOSED = "the context was closed; load the model again."

_get_logits = address_getter(lib.llama_get_logits)
get_embeddings = address_getter(lib.llama_get_embeddings)


class LlamaContext:
    """One sequence in one model's cache; see :class:`localspec.protocols.Context`.

    With ``hidden=True`` every output row also gives its hidden row (what an MTP assistant reads).
    """

    def __init__(self, model: LlamaModel, params: ContextParams, n_ctx: int, *, hidden: bool = False) -> None:
        self.model, self.n_ctx, self.decode_s = model, n_ctx, 0.0
        self.tokens: list[int] = []
        #: The last passes that gave all their rows: tokens and seconds.
        self.passes: deque[tuple[int, float]] = deque(maxlen=256)
        self.batch = params.batch
        self.options = context_options(model, params, n_ctx)
        self._core = _Core(model, self.options, params.batch, n_ctx)
        self._width = params.verify_width
        self._kernels = f"device={params.device} tiled={params.tiled} repack={params.repack}"
        self._n_out = self._floor = 0
        self._unfinished = False
        self._hidden = _hidden_view(self._core.handle, model.n_embd) if hidden else None

    @property
    def handle(self) -> Any:
        return self._core.handle

    def settings(self) -> str:
        """Everything of the settings that may change a logits row."""
        options, placement = self.options, self.model.placement
        names = ("n_threads", "n_ubatch", "type_k", "type_v", "flash_attn_type", "swa_full")
        found = [f"{name}={getattr(options, name)}" for name in names]
        return " ".join([*found, f"layers={placement.layers}", f"gpu={placement.gpu}", self._kernels])

    def identity(self) -> str:
        """What must be the same for :meth:`restore`: the build, the settings, the size."""
        return f"{build()} {self.settings()} n_ctx={self.n_ctx}"

    def decode(self, tokens: Sequence[int], outputs: Outputs = "all") -> Rows:
        if self._unfinished:
            self.rewind(len(self.tokens))  # an interrupt or an error left cells that are not in tokens
        n, start = len(tokens), len(self.tokens)
        if not 0 < n <= self.batch or start + n > self._core.cells:
            raise BackendError(f"cannot decode {n} tokens at {start}: batch {self.batch}, cells {self._core.cells}.")
        self._n_out = output_rows(outputs, n)
        if self._n_out > self._width:
            raise BackendError(f"cannot give {n} rows at once; the verify width is {self._width}.")
        began = perf_counter()
        self._unfinished = True
        self._core.fill(tokens, start, self._n_out)
        self._run(tokens)
        rows = self._core.rows(self._n_out)
        if self.model.vocabulary.suppressed.size:  # tokens that the model's file says are never to be generated
            rows[:, self.model.vocabulary.suppressed] = -np.inf
        seconds = perf_counter() - began
        self.decode_s += seconds
        if self._n_out == n:
            self.passes.append((n, seconds))
        self.tokens.extend(tokens)
        self._unfinished = False
        return rows

    def _run(self, tokens: Sequence[int]) -> None:
        self._core.run(len(tokens))

    def hidden(self) -> Rows:
        if self._hidden is None:
            raise BackendError("this context was made without hidden rows; make it with hidden=True.")
        return self._hidden.rows(self._core.handle, self._n_out)

    def rewind(self, length: int) -> None:
        """Forget from ``length`` on; everything where the model cannot, so look at ``tokens``.

        It cannot with a recurrent state, and to far before the end of a restored sliding-window cache.
        """
        if length >= len(self.tokens) and not self._unfinished:
            return
        self._unfinished = True  # an interrupt from here on leaves more in the cache than in tokens, never less
        if length < self._floor:
            length = self._floor = 0
        del self.tokens[length:]
        if not lib.llama_memory_seq_rm(self._core.memory, 0, length, -1):
            self.tokens.clear()
            lib.llama_memory_clear(self._core.memory, True)
            self._floor = 0
        self._unfinished = False

    def state(self) -> bytes:
        """The cache as bytes, for :meth:`restore` in a context of the same model and :meth:`identity`."""
        self.rewind(len(self.tokens))  # an interrupt may have left more
        size = int(lib.llama_state_seq_get_size(self.handle, 0))
        buffer = (ctypes.c_uint8 * size)()
        written = int(lib.llama_state_seq_get_data(self.handle, buffer, size, 0))
        if written == 0:
            raise BackendError("llama.cpp could not save the cache; there may not be enough memory.")
        found = bytes(memoryview(buffer)[:written])
        if not holds(found, len(self.tokens)):
            raise BackendError("this model's cache is of a kind that cannot be saved.")
        return found

    def restore(self, state: bytes, tokens: Sequence[int]) -> None:
        """Replace the cache by a saved ``state``, which holds ``tokens``.

        Of a sliding window llama.cpp saves what the last token sees, so the cache cannot be rewound to before that one.
        """
        self.tokens.clear()
        self._floor, self._unfinished = 0, True  # until it is all there
        fits = len(tokens) <= self.n_ctx and holds(state, len(tokens))
        buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        if not fits or lib.llama_state_seq_set_data(self.handle, buffer, len(state), 0) != len(state):
            raise BackendError(f"the saved cache of {len(tokens)} tokens does not fit this model and context.")
        if lib.llama_memory_seq_pos_min(self._core.memory, 0) > 0:
            self._floor = len(tokens) - 1
        self.tokens.extend(tokens)
        self._unfinished = False

    def close(self) -> None:
        self._core.close()


class LlamaMtpContext:
    """An assistant's context on another context's cache; see :class:`localspec.protocols.MtpContext`.

    Make it before the target is prefilled: making it resets the target's cells. It never clears or rewinds
    anything, because the memory is the target's.
    """

    def __init__(self, model: LlamaModel, params: ContextParams, target: LlamaContext) -> None:
        self.decode_s = 0.0
        options = context_options(model, params, target.n_ctx)
        fill(options, ctx_type=_CONTEXT_MTP, ctx_other=target.handle, n_outputs_max=1, n_batch=32, n_ubatch=32)
        for name in ("type_k", "type_v", "flash_attn_type", "swa_full"):
            setattr(options, name, getattr(target.options, name))
        self.model, self._target = model, target
        self._core = _Core(model, options, 32, target.n_ctx)
        self._hidden = _hidden_view(self._core.handle, target.model.n_embd)
        self._input = np.zeros(target.model.n_embd, np.float32)
        self._pointer = self._input.ctypes.data_as(ctypes.POINTER(ctypes.c_float))

    def step(self, token: int, position: int, hidden: NDArray[Any]) -> Rows:
        began = perf_counter()
        self._input[:] = hidden
        self._core.fill((token,), position, 1)
        self._core.run(1, embd=self._pointer)
        rows = self._core.rows(1)
        self.decode_s += perf_counter() - began
        return rows

    def hidden(self) -> Rows:
        return self._hidden.rows(self._core.handle, 1)

    def close(self) -> None:
        self._core.close()


class _Core:
    """A llama_context with one reused batch, written through numpy views."""

    def __init__(self, model: LlamaModel, options: Any, n_batch: int, n_ctx: int) -> None:
        forget_errors()
        handle = lib.llama_init_from_model(model.handle, options)
        if not handle:
            raise BackendError(
                f"llama.cpp cannot make a context of {n_ctx} tokens for {model.path.name}: {why()}. "
                "Try a smaller --ctx-size."
            )
        self._handle = handle
        self._model, self._n_embd = model, model.n_embd  # a context must not outlive its model
        self.cells = int(lib.llama_n_ctx(handle))
        self._batch = lib.llama_batch_init(n_batch, 0, 1)
        self._free = weakref.finalize(self, _free_core, handle, self._batch)
        view = np.ctypeslib.as_array
        self._token, self._pos = (view(a, (n_batch,)) for a in (self._batch.token, self._batch.pos))
        self._token_pointer = ctypes.cast(self._batch.token, type(self._batch.token))  # a copy, not a view of the field
        self._flag = view(self._batch.logits, (n_batch,))
        view(self._batch.n_seq_id, (n_batch,))[:] = 1
        for i in range(n_batch):
            self._batch.seq_id[i][0] = 0
        self._positions = np.arange(self.cells + n_batch, dtype=np.int32)
        self.logits = RowView(_get_logits, model.n_vocab, "logits; this model cannot generate")

    @property
    def handle(self) -> Any:
        """The llama_context. Everything goes through here: after :meth:`close` its memory is not ours."""
        if self._handle is None:
            raise BackendError(_CLOSED)
        return self._handle

    @property
    def memory(self) -> Any:
        return lib.llama_get_memory(self.handle)

    def fill(self, tokens: Sequence[int], start: int, n_out: int) -> None:
        n = len(tokens)
        if self._handle is None:
            raise BackendError(_CLOSED)  # the arrays behind the views are freed
        self._batch.n_tokens = n
        self._token[:n] = tokens
        self._pos[:n] = self._positions[start : start + n]
        self._flag[: n - n_out] = 0
        self._flag[n - n_out : n] = 1

    def rows(self, n: int) -> Rows:
        found = self.logits.rows(self.handle, n)
        check_numbers(found, self._model.path.name)
        return found

    def run(self, n: int, embd: Any = None) -> None:
        forget_errors()
        self._batch.embd = embd
        code = lib.llama_decode(self.handle, self._batch)
        self._batch.embd = None  # the array is not llama.cpp's to free
        if code != 0:
            raise BackendError(f"llama.cpp failed to decode {n} tokens (code {code}): {why()}.")

    def run_embedded(self, n: int, inputs: Rows) -> None:
        """A pass over embeddings (n, n_embd) in place of tokens."""
        values = np.ascontiguousarray(inputs, np.float32)
        if values.shape != (n, self._n_embd):
            raise BackendError(f"embeddings of shape {values.shape} were given for {n} tokens of width {self._n_embd}.")
        self._batch.token = None
        try:
            self.run(n, embd=values.ctypes.data_as(ctypes.POINTER(ctypes.c_float)))
        finally:
            self._batch.token = self._token_pointer  # it is freed with the batch

    def close(self) -> None:
        self._handle = None
        self._free()


def _hidden_view(handle: Any, n_embd: int) -> RowView:
    """Switch hidden rows on for every output of a context."""
    staging("llama_set_embeddings_nextn")(handle, True, True)
    get = address_getter(staging("llama_get_embeddings_nextn"))
    return RowView(get, n_embd, "hidden rows; this target cannot feed an assistant")


def _free_core(handle: Any, batch: Any) -> None:
    lib.llama_free(handle)
    batch.embd = None  # an interrupt may have left a pointer to a numpy array
    lib.llama_batch_free(batch)


def context_options(model: LlamaModel, params: ContextParams, n_ctx: int) -> Any:
    """llama_context_params for ``n_ctx`` tokens.

    On the CPU K = Q8_0, V = F16 with flash attention: the setting in which rows of a batch equal single rows bit for
    bit, and the fastest of those. On a GPU F16 and whatever the device supports. A few more cells than ``n_ctx`` let a
    last draft be verified in a full context.
    """
    gpu = model.placement.gpu
    threads = params.threads or (1 if model.n_bytes < _SMALL else default_threads())
    exact = not gpu and all(size % 32 == 0 for size in model.key_lengths)
    return fill(
        lib.llama_context_default_params(),
        n_ctx=n_ctx + params.verify_width,
        n_batch=params.batch,
        n_ubatch=params.pass_width(gpu=gpu),
        n_seq_max=1,
        n_outputs_max=params.verify_width,
        n_threads=threads,
        n_threads_batch=threads,
        type_k=Q8_0 if exact else F16,
        type_v=F16,
        flash_attn_type=_FLASH_AUTO if gpu else _FLASH_ON,
        swa_full=True,
        no_perf=True,
    )
