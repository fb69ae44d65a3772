"""llama.cpp's quantiser in a process of its own, which :mod:`gguf_convert.quantization.child` starts.

llama.cpp aborts or throws on bad input and cannot be interrupted, so the parent kills this process instead. It reads a
:class:`QuantizeJob` (one line of JSON) from standard input, writes the plan, waits for the line ``go``, and reports its
progress, one line of JSON each. It ends when its standard input closes.
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
from typing import TYPE_CHECKING, Any

from localspec.errors import LocalspecError

if TYPE_CHECKING:
    from localspec.gguf.imatrix import Imatrix

GO = "go\n"
#: llama.cpp's log level of errors.
_ERROR = 4
#: Types of llama_model_kv_override.
_INT, _STR = 0, 3
#: Longest text of a llama_model_kv_override, in bytes.
_MAX_TEXT = 127
#: Exit code when the parent is gone.
_NO_PARENT = 3
#: Pause between reports of the file's size, in seconds.
_POLL_S = 0.2
#: Rows are quantised in slabs of this many bytes. The output does not depend on it.
_SLAB = 256 * 2**20
_TENSOR = re.compile(r"\[ *\d+/ *\d+\] (?P<name>.+?) +- \[[^\]]*\], type = +(?P<type>\w+), ")
_BECOMES = re.compile(r"size = .* -> +[\d.]+ MiB \((?P<type>\w+)\)")


@dataclass(frozen=True)
class QuantizeJob:
    """One file to quantise. ``ftype`` and the types of ``overrides`` are llama.cpp's numbers.

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
    """A tensor's name, and its type before and after as ggml writes them, in upper case."""

    name: str
    before: str
    after: str


class _Log:
    """llama.cpp's log: its errors, and the tensors that it names, with their types before and after."""

    def __init__(self, lib: Any) -> None:
        self.errors: deque[str] = deque(maxlen=8)
        self.tensors: list[PlannedTensor] = []
        self.on_tensor: Callable[[str], None] = lambda name: None
        self._callback = lib.llama_log_callback(self._receive)
        lib.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _receive(self, level: int, text: bytes, _: Any) -> None:
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
    def last_error(self) -> str:
        lines = [line.removeprefix("llama_model_quantize: failed to quantize: ") for line in self.errors]
        return lines[-1] if lines else "llama.cpp gave no reason"


def main() -> None:
    values = json.loads(sys.stdin.readline())
    job = QuantizeJob(**{**values, "overrides": tuple((pattern, kind) for pattern, kind in values["overrides"])})
    go = threading.Event()
    threading.Thread(target=_read_input, args=(go,), daemon=True).start()
    try:
        error = _quantize(job, go)
    except LocalspecError as raised:
        error = str(raised)
    _send({"error": error} if error else {"done": True})


def _send(message: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _read_input(go: threading.Event) -> None:
    for line in sys.stdin:
        if line == GO:
            go.set()
    os._exit(_NO_PARENT)


def _quantize(job: QuantizeJob, go: threading.Event) -> str | None:
    """Plan, wait, run. Returns the reason of a failure."""
    from localspec.llama.binding import bindings

    lib = bindings()
    log = _Log(lib)
    with _Params(lib, job) as params:
        params.value.dry_run = True
        if _run(lib, job, params):
            return log.last_error
        _send({"plan": [[tensor.name, tensor.before, tensor.after] for tensor in log.tensors]})
        go.wait()
        params.value.dry_run = False
        log.on_tensor = lambda name: _send({"tensor": name})
        threading.Thread(target=_report_size, args=(job.destination,), daemon=True).start()
        return log.last_error if _run(lib, job, params) else None


def _run(lib: Any, job: QuantizeJob, params: _Params) -> int:
    source, destination = os.fsencode(job.source), os.fsencode(job.destination)
    return int(lib.llama_model_quantize(source, destination, ctypes.byref(params.value)))


def _report_size(path: str) -> None:
    pause = threading.Event()
    while not pause.wait(_POLL_S):
        try:
            _send({"bytes": os.stat(path).st_size})
        except OSError:
            continue


class _Params:
    """llama_model_quantize_params of a job, and the arrays that it points to, alive as long as the block."""

    def __init__(self, lib: Any, job: QuantizeJob) -> None:
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
        self._point("kv_overrides", _imatrix_keys(lib, path, imatrix, len(rows)))


def _imatrix_keys(lib: Any, path: str, imatrix: Imatrix, entries: int) -> Any:
    """The metadata that llama-quantize writes into a file made with an importance matrix."""
    facts: list[tuple[str, str | int]] = [("file", path)]
    facts += [("dataset", name) for name in imatrix.datasets[:1]]
    facts += [("entries_count", entries)]
    facts += [("chunks_count", imatrix.chunks)] if imatrix.chunks > 0 else []
    array = (lib.llama_model_kv_override * (len(facts) + 1))()
    for item, (name, value) in zip(array, facts, strict=False):
        item.key = f"quantize.imatrix.{name}".encode()
        item.tag = _STR if isinstance(value, str) else _INT
        if isinstance(value, str):
            item.value.val_str = os.fsencode(value)[:_MAX_TEXT]
        else:
            item.value.val_i64 = value
    return array
