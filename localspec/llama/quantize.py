"""llama.cpp's quantiser, in a process of its own that :mod:`gguf_convert.quantizer` starts.

llama.cpp aborts or throws on bad input and cannot be interrupted, so this process is made to be killed. It reads a job
(:class:`Job`, one line of JSON) from standard input, writes what it would do, waits for the line ``go``, and reports as
it goes; a line of JSON each. When its standard input closes, whoever asked is gone, and it ends.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from localspec.errors import LocalspecError
from localspec.gguf.types import BLOCKS, TYPE_NAMES
from localspec.llama.symbols import function

if TYPE_CHECKING:
    from localspec.gguf.imatrix import Imatrix

GO = "go\n"
_TYPE_NUMBERS = {name: number for number, name in TYPE_NAMES.items()}
_ERROR = 4
_INT, _STR = 0, 3  # llama_model_kv_override_type
_POLL_S = 0.2
#: Rows are quantised in slabs of this many bytes, whatever the size of a tensor; the output does not depend on it.
_SLAB = 256 * 2**20
_TENSOR = re.compile(r"\[ *\d+/ *\d+\] (?P<name>.+?) +- \[[^\]]*\], type = +(?P<type>\w+), ")
_BECOMES = re.compile(r"size = .* -> +[\d.]+ MiB \((?P<type>\w+)\)")


@dataclass(frozen=True)
class Job:
    """What to quantise to what. ``ftype`` and the types of ``overrides`` are llama.cpp's numbers.

    ``overrides`` are (regular expression, type): the first that occurs in a tensor's name decides.
    """

    source: str
    destination: str
    ftype: int
    overrides: tuple[tuple[str, int], ...] = ()
    imatrix: str | None = None
    pure: bool = False
    requantize: bool = False
    threads: int = 0


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor's name, and its type before and after as ggml writes them in upper case."""

    name: str
    before: str
    after: str


def quantize_rows(values: npt.NDArray[np.float32], kind: int) -> npt.NDArray[np.uint8]:
    """The bytes of rows of shape (n, row) as ggml type ``kind``, which must divide a row and need no imatrix.

    The values must be finite: ggml aborts on what it cannot round.
    """
    quantize: Callable[..., int] = _chunk_function()
    rows = np.ascontiguousarray(values, np.float32)
    n, row = rows.shape
    out = np.empty(rows.nbytes, np.uint8)  # no quantised type is wider than F32
    size = quantize(kind, rows.ctypes.data, out.ctypes.data, 0, n, row, None)
    packed: npt.NDArray[np.uint8] = out[:size].copy()
    return packed


def dequantize_rows(packed: npt.NDArray[np.uint8], kind: str, row: int) -> npt.NDArray[np.float32]:
    """The values, shape (n, ``row``), of whole rows that are packed as ggml type ``kind`` (its name)."""
    dequantize: Callable[..., None] = _dequantize_function(kind)
    data = np.ascontiguousarray(packed, np.uint8)
    per_block, size = BLOCKS[_TYPE_NUMBERS[kind]]
    values = np.empty((data.size // (row // per_block * size), row), np.float32)
    dequantize(data.ctypes.data, values.ctypes.data, values.size)
    return values


@cache
def _chunk_function() -> Any:
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    arguments = (ctypes.c_int, pointer, pointer, number, number, number, pointer)
    return _function("ggml_quantize_chunk", ctypes.c_size_t, *arguments)


@cache
def _dequantize_function(kind: str) -> Any:
    name = f"dequantize_row_{kind.lower().replace('_k', '_K')}"
    return _function(name, None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)


def _function(name: str, *types: Any) -> Any:
    from localspec.llama.binding import libraries

    return function(libraries(), name, *types)


class _Log:
    """llama.cpp's log: its errors, and the tensors that it names, with their types before and after."""

    def __init__(self, lib: Any) -> None:
        self.errors: deque[str] = deque(maxlen=8)
        self.tensors: list[PlannedTensor] = []
        self.on_tensor: Callable[[str], None] = lambda name: None
        self._callback = lib.llama_log_callback(self._take)
        lib.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _take(self, level: int, text: bytes, _: Any) -> None:
        piece = text.decode("utf-8", errors="replace")
        if level == _ERROR and piece.strip(" =\n"):
            self.errors.append(piece.strip(" =\n"))
        if begins := _TENSOR.match(piece):
            kind = begins["type"].upper()
            self.tensors.append(PlannedTensor(begins["name"], kind, kind))
            self.on_tensor(begins["name"])
        elif (becomes := _BECOMES.search(piece)) and self.tensors:
            self.tensors[-1] = replace(self.tensors[-1], after=becomes["type"].upper())

    @property
    def reason(self) -> str:
        lines = [line.removeprefix("llama_model_quantize: failed to quantize: ") for line in self.errors]
        return lines[-1] if lines else "llama.cpp gave no reason"


def main() -> None:
    job = Job(**_tuples(json.loads(sys.stdin.readline())))
    go = threading.Event()
    threading.Thread(target=_watch, args=(go,), daemon=True).start()
    try:
        reason = _quantize(job, go)
    except LocalspecError as error:
        reason = str(error)
    _say({"error": reason} if reason else {"done": True})


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {**values, "overrides": tuple((pattern, kind) for pattern, kind in values["overrides"])}


def _say(message: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _watch(go: threading.Event) -> None:
    for line in sys.stdin:
        if line == GO:
            go.set()
    os._exit(3)


def _quantize(job: Job, go: threading.Event) -> str | None:
    """Plan, wait, run. Returns why it failed."""
    from localspec.llama.binding import bindings

    lib = bindings()
    log = _Log(lib)
    with _Params(lib, job) as params:
        params.value.dry_run = True
        if _run(lib, job, params):
            return log.reason
        _say({"plan": [[tensor.name, tensor.before, tensor.after] for tensor in log.tensors]})
        go.wait()
        params.value.dry_run = False
        log.on_tensor = lambda name: _say({"tensor": name})
        threading.Thread(target=_report_size, args=(job.destination,), daemon=True).start()
        return log.reason if _run(lib, job, params) else None


def _run(lib: Any, job: Job, params: _Params) -> int:
    source, destination = os.fsencode(job.source), os.fsencode(job.destination)
    return int(lib.llama_model_quantize(source, destination, ctypes.byref(params.value)))


def _report_size(path: str) -> None:
    pause = threading.Event()
    while not pause.wait(_POLL_S):
        try:
            _say({"bytes": os.stat(path).st_size})
        except OSError:
            continue


class _Params:
    """llama_model_quantize_params of a job, and the arrays that it points to, alive as long as the block."""

    def __init__(self, lib: Any, job: Job) -> None:
        from localspec.gguf.imatrix import read_imatrix

        self.value = lib.llama_model_quantize_default_params()
        self.value.nthread, self.value.ftype, self.value.pure = job.threads, job.ftype, job.pure
        self.value.allow_requantize, self.value.max_buf_size = job.requantize, _SLAB
        self._kept: list[Any] = []
        if job.overrides:
            rows = [(pattern.encode(), kind) for pattern, kind in job.overrides]
            array = (lib.llama_model_tensor_override * (len(rows) + 1))(*rows, (None, self.value.output_tensor_type))
            self._point("tt_overrides", array)
        if job.imatrix:
            self._add_imatrix(lib, job.imatrix, read_imatrix(job.imatrix))

    def __enter__(self) -> _Params:
        return self

    def __exit__(self, *_: object) -> None:
        self._kept.clear()

    def _point(self, name: str, array: Any) -> None:
        self._kept.append(array)
        setattr(self.value, name, ctypes.cast(array, type(getattr(self.value, name))))

    def _add_imatrix(self, lib: Any, path: str, imatrix: Imatrix) -> None:
        rows = []
        for name, values in imatrix.mean_squares().items():
            self._kept.append(values)
            pointer = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            rows.append((name.encode(), pointer, values.size))
        self._point("imatrix", (lib.llama_model_imatrix_data * (len(rows) + 1))(*rows))
        self._point("kv_overrides", _provenance(lib, path, imatrix, len(rows)))


def _provenance(lib: Any, path: str, imatrix: Imatrix, entries: int) -> Any:
    """The keys that llama-quantize leaves in a file made with an importance matrix."""
    facts: list[tuple[str, str | int]] = [("file", path)]
    facts += [("dataset", name) for name in imatrix.datasets[:1]]
    facts += [("entries_count", entries)]
    facts += [("chunks_count", imatrix.chunks)] if imatrix.chunks > 0 else []
    array = (lib.llama_model_kv_override * (len(facts) + 1))()
    for item, (name, value) in zip(array, facts, strict=False):
        item.key = f"quantize.imatrix.{name}".encode()
        item.tag = _STR if isinstance(value, str) else _INT
        if isinstance(value, str):
            item.value.val_str = os.fsencode(value)[:127]
        else:
            item.value.val_i64 = value
    return array
