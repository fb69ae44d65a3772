"""The seam to llama.cpp: the only module that imports ``llama_cpp``.

Everything that llama.cpp would answer with an abort of the process is checked here first. A :class:`LlamaContext`
is driven by one thread at a time.
"""

from __future__ import annotations

import ctypes
import os
import sys
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any

import llama_cpp
import llama_cpp.llama_cpp as lib
import numpy as np
from numpy.typing import NDArray

from localspec.backends.base import Outputs, Rows, output_rows
from localspec.backends.devices import Device, Placement, default_threads, list_devices, place
from localspec.backends.llama_vocabulary import LlamaVocabulary
from localspec.backends.rows import RowView, check_numbers
from localspec.backends.saved_cells import holds
from localspec.config import ContextParams
from localspec.errors import BackendError, MissingFeatureError, ModelFileError
from localspec.gguf_header import GgufHeader

F16, Q8_0 = 1, 8
_FLASH_AUTO, _FLASH_ON = -1, 1
_CONTEXT_MTP = 1
_LOG_ERROR = 4
_VOCAB_NONE = 0
#: Models below this many bytes run on one thread by default: a pass takes less time than threads take to meet.
_SMALL = 64 * 2**20
_CLOSED = "the context was closed; load the model again."

_errors: deque[str] = deque(maxlen=8)
_verbose = False


@lib.llama_log_callback  # type: ignore[untyped-decorator]
def _log(level: int, text: bytes, _: Any) -> None:
    if level == _LOG_ERROR:
        _errors.append(text.decode("utf-8", errors="replace").strip())
    if _verbose:
        sys.stderr.write(text.decode("utf-8", errors="replace"))


_started = False


def _start(verbose: bool) -> None:
    """Initialise llama.cpp once; send its log to stderr or nowhere."""
    global _started, _verbose  # noqa: PLW0603 - llama.cpp has one log per process
    _verbose = verbose
    if not _started:
        lib.llama_log_set(_log, ctypes.c_void_p(0))
        lib.llama_backend_init()
        _started = True


def _why() -> str:
    """The reason that llama.cpp logged, most telling line first."""
    lines = [line.split(": ", 1)[-1] for line in _errors if line]
    return lines[0] if lines else "llama.cpp gave no reason"


def _fill(struct: Any, **values: Any) -> Any:
    """Set fields that exist: ctypes takes any attribute name silently."""
    names = {name for name, *_ in struct._fields_}
    for name, value in values.items():
        if name not in names:
            raise MissingFeatureError(
                f"llama-cpp-python {llama_cpp.__version__} has no {type(struct).__name__}.{name}; "
                "install llama-cpp-python 0.3.36 or newer."
            )
        setattr(struct, name, value)
    return struct


def _staging(name: str) -> Any:
    """A function of llama.cpp's staging API, which comes and goes between releases."""
    try:
        import llama_cpp.llama_cpp_ext as ext

        return getattr(ext, name)
    except (ImportError, AttributeError) as error:
        raise MissingFeatureError(
            f"llama-cpp-python {llama_cpp.__version__} lacks {name}, which the Gemma 4 assistant needs; "
            "install llama-cpp-python 0.3.36 or newer, or use `-d ngram`."
        ) from error


def _address_getter(function: Any) -> Any:
    """``function(ctx)`` as one that returns an address: setting types on llama_cpp's own would change it for all."""
    return ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(ctypes.cast(function, ctypes.c_void_p).value or 0)


_get_logits = _address_getter(lib.llama_get_logits)
get_embeddings = _address_getter(lib.llama_get_embeddings)


def bindings() -> Any:
    """llama.h as ``llama_cpp`` binds it, started, for the other modules of the seam."""
    _start(_verbose)
    return lib


def libraries() -> list[ctypes.CDLL]:
    """The loaded libraries, in which the seam looks up what ``llama_cpp`` does not bind."""
    from llama_cpp import _ggml

    found = [_ggml.libggml, lib._lib]
    with suppress(OSError, RuntimeError):  # some builds have all of ggml in one library
        found.append(_ggml.ctypes_ext.load_shared_library("ggml-base", _ggml.libggml_base_path))
    return found


def devices() -> list[Device]:
    """What llama.cpp can compute on."""
    _start(_verbose)
    return list_devices(libraries())


def system_info() -> str:
    """llama.cpp's own line about its build and this CPU."""
    _start(_verbose)
    return bytes(lib.llama_print_system_info()).decode(errors="replace").strip()


def build() -> str:
    """Which llama.cpp this is: the version of its bindings, and what it was built for and found."""
    return f"{llama_cpp.__version__} {system_info()}"


class LlamaModel:
    """A GGUF model in memory. Free it after every context made from it."""

    def __init__(
        self,
        header: GgufHeader,
        params: ContextParams,
        *,
        verbose: bool = False,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        self.header, self.path = header, header.path
        _start(verbose)
        self.placement: Placement = place(devices(), params)
        self._raised: BaseException | None = None
        options = _fill(lib.llama_model_default_params(), n_gpu_layers=self.placement.layers)
        if self.placement.handles is not None:
            _fill(options, devices=ctypes.cast(self.placement.handles, ctypes.c_void_p))
        if not params.tiled:
            os.environ["GGML_CPU_TILED_MM"] = "0"  # read once, when first something is decoded
        if not params.repack:
            _fill(options, use_extra_bufts=False)
        if progress is not None:
            _fill(options, progress_callback=self._progress(progress))
        _errors.clear()
        self._handle = lib.llama_model_load_from_file(os.fsencode(self.path), options)
        if self._raised is not None:
            self.close()
            raise self._raised
        if not self._handle:
            raise ModelFileError(f"llama.cpp cannot load {self.path}: {_why()}. Check the file, or run with --verbose.")
        self._free = weakref.finalize(self, lib.llama_model_free, self._handle)
        vocab = lib.llama_model_get_vocab(self._handle)
        if lib.llama_vocab_type(vocab) == _VOCAB_NONE:
            raise ModelFileError(f"{self.path} has no vocabulary; give a language model, or convert it again.")
        me = weakref.ref(self)  # the vocabulary must not keep the model
        self.vocabulary = LlamaVocabulary(lib, vocab, lambda: (model := me()) is not None and model.loaded)
        if self.vocabulary.add_bos and not 0 <= self.vocabulary.bos < self.vocabulary.n_tokens:
            raise ModelFileError(f"{self.path} asks for a BOS token and does not name one; convert it again.")
        self.n_vocab = self.vocabulary.n_tokens

    def _progress(self, report: Callable[[float], None]) -> Any:
        def callback(fraction: float, _: Any) -> bool:
            try:
                report(fraction)
            except BaseException as error:
                self._raised = error
            return self._raised is None

        self._callback = lib.llama_progress_callback(callback)
        return self._callback

    @property
    def loaded(self) -> bool:
        return bool(self._handle)

    @property
    def handle(self) -> Any:
        if not self._handle:
            raise BackendError(f"{self.path} was closed; load it again.")
        return self._handle

    @property
    def description(self) -> str:
        buffer = ctypes.create_string_buffer(256)
        lib.llama_model_desc(self.handle, buffer, len(buffer))
        return buffer.value.decode("utf-8", errors="replace")

    @property
    def n_params(self) -> int:
        return int(lib.llama_model_n_params(self.handle))

    @property
    def n_bytes(self) -> int:
        return int(lib.llama_model_size(self.handle))

    @property
    def n_ctx_train(self) -> int:
        return int(lib.llama_model_n_ctx_train(self.handle))

    @property
    def n_embd(self) -> int:
        return int(lib.llama_model_n_embd(self.handle))

    @property
    def key_lengths(self) -> list[int]:
        """Key sizes of a head, one for each kind of layer."""
        header = self.header
        derived = (header.number("embedding_length") or 0) // max(1, header.number("attention.head_count") or 1)
        sizes = [header.number("attention.key_length", derived), header.number("attention.key_length_swa")]
        return [size for size in sizes if size]

    @property
    def rewinds(self) -> bool:
        """Whether tokens can be taken back from the cache (not with recurrent layers)."""
        return not (lib.llama_model_is_recurrent(self.handle) or lib.llama_model_is_hybrid(self.handle))

    @property
    def generates(self) -> bool:
        """Whether it is a decoder: embedding and encoder models are not."""
        return bool(
            lib.llama_model_has_decoder(self.handle)
            and not lib.llama_model_has_encoder(self.handle)
            and not self.header.metadata.get(f"{self.header.architecture}.pooling_type")
        )

    @property
    def chat_template(self) -> str | None:
        text = lib.llama_model_chat_template(self.handle, None)
        return text.decode("utf-8", errors="replace") if text else None

    def close(self) -> None:
        if self._handle:
            self._handle = None
            if hasattr(self, "_free"):
                self._free()


class LlamaContext:
    """One sequence in one model's cache; see :class:`localspec.backends.base.Context`.

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
    """An assistant's context on another context's cache; see :class:`localspec.backends.base.MtpContext`.

    Make it before the target is prefilled: making it resets the target's cells. It never clears or rewinds
    anything, because the memory is the target's.
    """

    def __init__(self, model: LlamaModel, params: ContextParams, target: LlamaContext) -> None:
        self.decode_s = 0.0
        options = context_options(model, params, target.n_ctx)
        _fill(options, ctx_type=_CONTEXT_MTP, ctx_other=target.handle, n_outputs_max=1, n_batch=32, n_ubatch=32)
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
        _errors.clear()
        handle = lib.llama_init_from_model(model.handle, options)
        if not handle:
            raise BackendError(
                f"llama.cpp cannot make a context of {n_ctx} tokens for {model.path.name}: {_why()}. "
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
        _errors.clear()
        self._batch.embd = embd
        code = lib.llama_decode(self.handle, self._batch)
        self._batch.embd = None  # the array is not llama.cpp's to free
        if code != 0:
            raise BackendError(f"llama.cpp failed to decode {n} tokens (code {code}): {_why()}.")

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
    _staging("llama_set_embeddings_nextn")(handle, True, True)
    get = _address_getter(_staging("llama_get_embeddings_nextn"))
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
    return _fill(
        lib.llama_context_default_params(),
        n_ctx=n_ctx + params.verify_width,
        n_batch=params.batch,
        n_ubatch=params.batch,
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
