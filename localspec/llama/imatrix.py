"""An importance matrix of a text: llama.cpp evaluates the text, a callback sums squares of each matrix's inputs.

The text is cut into chunks of equal length. Each is evaluated from an empty cache, as in llama-imatrix. llama.cpp runs
the graph node by node for the callback, which reads the inputs of a multiplication in place. Reference: llama.cpp,
``tools/imatrix/imatrix.cpp``.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from localspec.errors import BackendError, InputError, MissingFeatureError
from localspec.gguf.header import GgufHeader
from localspec.gguf.imatrix import Entry, Imatrix
from localspec.gguf.types import TYPE_NUMBERS
from localspec.llama.binding import lib, shared_libraries
from localspec.llama.host import default_threads
from localspec.llama.model import LlamaModel
from localspec.llama.symbols import function
from localspec.params import ContextParams

Sums = npt.NDArray[np.float64]

_F32 = TYPE_NUMBERS["F32"]
#: Numbers of ggml's operations that are looked up by name.
_OPERATIONS = 64
#: A matrix with fewer input rows is not one of a layer's. llama-imatrix leaves it out too.
_FEWEST_ROWS = 16
#: Tokens of a chunk by default, as in llama-imatrix.
CHUNK = 512


class _Tensor(ctypes.Structure):
    """``struct ggml_tensor`` of ggml.h, up to the name."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
        ("nb", ctypes.c_size_t * 4),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * 64),
    )


class _Ggml:
    """The functions of ggml that llama_cpp does not bind."""

    def __init__(self) -> None:
        pointer, size, libraries = ctypes.c_void_p, ctypes.c_size_t, shared_libraries()
        self.op_name = function(libraries, "ggml_op_name", ctypes.c_char_p, ctypes.c_int)
        self.is_host = function(libraries, "ggml_backend_buffer_is_host", ctypes.c_bool, pointer)
        self.get = function(libraries, "ggml_backend_tensor_get", None, pointer, pointer, size, size)
        self.bytes = function(libraries, "ggml_nbytes", size, pointer)
        _check_layout(function(libraries, "ggml_get_name", ctypes.c_void_p, pointer))


def _check_layout(get_name: Any) -> None:
    """Raise unless llama.cpp has the name, the last field of :class:`_Tensor`, at the same offset."""
    tensor = _Tensor()
    address = ctypes.addressof(tensor)
    if get_name(address) != address + _Tensor.name.offset:
        raise MissingFeatureError(
            "this build of llama.cpp lays tensors out in another way; install llama-cpp-python 0.3.36, or use "
            "llama-imatrix."
        )


class _Collector:
    """The callback, and the sums by the name of a matrix."""

    def __init__(self) -> None:
        self.sums: dict[str, Sums] = {}
        self.counts: dict[str, Sums] = {}
        self.error: BaseException | None = None
        self._ggml = _Ggml()
        self._ops = {number: self._ggml.op_name(number) for number in range(_OPERATIONS)}

    def __call__(self, address: int, ask: bool, _: Any) -> bool:
        """With ``ask``: True if llama.cpp shall stop behind this node. Without: read the node's inputs."""
        try:
            node = _Tensor.from_address(address)
            op = self._ops.get(node.op)
            if op not in (b"MUL_MAT", b"MUL_MAT_ID"):
                return False
            matrix, inputs = (_Tensor.from_address(node.src[i]) for i in (0, 1))
            name = _plain_name(matrix.name)
            if ask:
                of_layer = inputs.ne[1] >= _FEWEST_ROWS and inputs.type == _F32 and name.startswith("blk.")
                return op == b"MUL_MAT_ID" or of_layer
            if op == b"MUL_MAT_ID":
                self._add_experts(name, matrix, node, inputs)
            else:
                self._add_matrix(name, matrix, self._values(node.src[1], inputs, np.float32))
        except BaseException as error:  # nothing may pass through C
            self.error = error
            return False
        return True

    def _values(self, address: int, tensor: _Tensor, kind: Any) -> npt.NDArray[Any]:
        """The tensor, innermost dimension last; a view where it lies in the host's memory."""
        size = int(self._ggml.bytes(address))
        if self._ggml.is_host(tensor.buffer):
            raw = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(tensor.data))
        else:
            raw = np.empty(size, np.uint8)
            self._ggml.get(address, raw.ctypes.data, 0, size)
        shape, strides = tuple(reversed(tensor.ne)), tuple(reversed(tensor.nb))
        values: npt.NDArray[Any] = np.ndarray(shape, kind, raw, 0, strides)
        return values

    def _add_matrix(self, name: str, matrix: _Tensor, inputs: npt.NDArray[np.float32]) -> None:
        matrices = matrix.ne[2] * matrix.ne[3]
        outer, inner = inputs.shape[0], inputs.shape[1]
        rows = inputs.shape[2] * outer * inner // matrices
        sums = np.zeros((matrices, inputs.shape[3]), np.float64)
        for i in range(outer):
            for j in range(inner):
                sums[(i % matrix.ne[3]) * matrix.ne[2] + j % matrix.ne[2]] += _squares(inputs[i, j])
        self._add(name, sums.reshape(1, -1), np.array([rows], np.float64))

    def _add_experts(self, name: str, matrix: _Tensor, node: _Tensor, inputs: _Tensor) -> None:
        values = self._values(node.src[1], inputs, np.float32)[0]  # (tokens, used or 1, row)
        ids = self._values(node.src[2], _Tensor.from_address(node.src[2]), np.int32)[0, 0]  # (tokens, used)
        experts = matrix.ne[2]
        sums, counts = np.zeros((experts, values.shape[2]), np.float64), np.zeros(experts, np.float64)
        for slot in range(ids.shape[1]):
            rows = values[:, slot % values.shape[1]]
            for expert in np.unique(ids[:, slot]):
                chosen = rows[ids[:, slot] == expert]
                sums[expert] += _squares(chosen)
                counts[expert] += len(chosen)
        self._add(name, sums, counts)

    def _add(self, name: str, sums: Sums, counts: Sums) -> None:
        if not np.isfinite(sums).all():
            raise BackendError(f"{name} is given infinite values or NaN; check the model file.")
        if name in self.sums:
            self.sums[name] += sums
            self.counts[name] += counts
        else:
            self.sums[name], self.counts[name] = sums, counts

    def entries(self) -> dict[str, Entry]:
        return {
            name: Entry(sums.astype(np.float32), self.counts[name].astype(np.float32))
            for name, sums in self.sums.items()
        }


def _squares(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Sums of squares by column: one pass, no copy."""
    return np.asarray(np.einsum("ij,ij->j", rows, rows))


def _plain_name(name: bytes) -> str:
    """A name without the device and the copy that a scheduler adds: ``CUDA0#blk.0.attn_k.weight#0``."""
    parts = name.decode("utf-8", errors="replace").split("#")
    return parts[1] if len(parts) > 1 else parts[0]


def compute_imatrix(
    header: GgufHeader,
    text: str,
    dataset: str,
    params: ContextParams,
    *,
    chunk: int = CHUNK,
    chunks: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Imatrix:
    """Evaluate ``text`` in chunks of ``chunk`` tokens (at most ``chunks`` of them).

    Raises InputError where the text has fewer than two chunks, as llama-imatrix does.
    """
    model = LlamaModel(header, params)
    try:
        tokens = model.vocabulary.tokenize(text, add_special=True)
        count = len(tokens) // chunk
        if count < 2:
            raise InputError(
                f"{dataset} has {len(tokens)} tokens, and an importance matrix needs at least {2 * chunk}: "
                "give a longer text, or a smaller --chunk."
            )
        count = min(count, chunks or count)
        pieces = [tokens[i * chunk : (i + 1) * chunk] for i in range(count)]
        entries = _collect(model, params, pieces, progress or (lambda done, total: None))
    finally:
        model.close()
    if not entries:
        raise BackendError(f"{Path(header.path).name} multiplied nothing that could be summed; use llama-imatrix.")
    return Imatrix(entries, (dataset,), count, chunk)


def _collect(
    model: LlamaModel, params: ContextParams, pieces: Sequence[list[int]], progress: Callable[[int, int], None]
) -> dict[str, Entry]:
    collector = _Collector()
    callback = lib.ggml_backend_sched_eval_callback(collector)
    size = len(pieces[0])
    context = lib.llama_init_from_model(model.handle, _options(size, params, callback))
    if not context:
        raise BackendError(f"llama.cpp cannot make a context of {size} tokens for {model.path.name}.")
    batch = lib.llama_batch_init(size, 0, 1)
    try:
        for done, piece in enumerate(pieces):
            if model.vocabulary.add_bos:
                piece[0] = model.vocabulary.bos
            _evaluate(context, batch, piece)
            if collector.error is not None:
                raise collector.error
            progress(done + 1, len(pieces))
    finally:
        lib.llama_batch_free(batch)
        lib.llama_free(context)
    return collector.entries()


def _options(size: int, params: ContextParams, callback: Any) -> Any:
    """llama-imatrix's settings. Every row is an output, because the last layer would leave the others out."""
    options = lib.llama_context_default_params()
    options.n_ctx = options.n_batch = options.n_ubatch = options.n_outputs_max = size
    options.n_seq_max = 1
    options.n_threads = options.n_threads_batch = params.threads or default_threads()
    options.cb_eval = callback
    options.no_perf = True
    return options


def _evaluate(context: Any, batch: Any, piece: Sequence[int]) -> None:
    lib.llama_memory_clear(lib.llama_get_memory(context), True)
    batch.n_tokens = len(piece)
    for i, token in enumerate(piece):
        batch.token[i], batch.pos[i], batch.logits[i] = token, i, 1
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
    code = lib.llama_decode(context, batch)
    if code != 0:
        raise BackendError(f"llama.cpp failed to evaluate {len(piece)} tokens (code {code}).")
