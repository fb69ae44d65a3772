"""llama.cpp's RPC backend: devices of other machines, and the server that offers this machine's."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

from localspec.errors import BackendError, MissingFeatureError
from localspec.llama.binding import initialise, lib, shared_libraries
from localspec.llama.devices import Device
from localspec.llama.symbols import function

#: The option of CMake with which llama.cpp has RPC.
BUILD_FLAG = "GGML_RPC"
_POINTER, _SIZE, _TEXT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
_SIZES = ctypes.POINTER(_SIZE)
#: Places of two functions in ggml's ``struct ggml_backend_device_i``, in pointers.
_GET_NAME, _GET_MEMORY = 0, 2
#: Kept from being collected while llama.cpp may call them.
_callbacks: list[Any] = []


def supports_rpc() -> bool:
    """True if this build of llama.cpp can use other machines, and be used by them."""
    initialise(False)
    return bool(lib.llama_supports_rpc())


def rpc_devices(endpoint: str) -> list[int]:
    """Handles of the devices of a worker at ``HOST:PORT``. llama.cpp aborts the process if it cannot connect.

    Raises :class:`BackendError` if the worker has none.
    """
    add = _rpc_function("ggml_backend_rpc_add_server", _POINTER, _TEXT)
    libraries = shared_libraries()
    count = function(libraries, "ggml_backend_reg_dev_count", _SIZE, _POINTER)
    get = function(libraries, "ggml_backend_reg_dev_get", _POINTER, _POINTER, _SIZE)
    registry = add(endpoint.encode())
    if not registry:
        raise BackendError(f"the worker {endpoint} has no device.")
    return [get(registry, i) for i in range(count(registry))]


def cpu_device() -> int:
    """Handle of the device that is this machine's CPU."""
    find = function(shared_libraries(), "ggml_backend_dev_by_type", _POINTER, ctypes.c_int)
    return int(find(0))


def cpu_buffer_type() -> int:
    """ggml's type of buffers in the host's memory."""
    return int(function(shared_libraries(), "ggml_backend_cpu_buffer_type", _POINTER)())


def serve_rpc(
    endpoint: str, cache: str | None, threads: int, devices: Sequence[int], log: Callable[[str], None]
) -> None:
    """Offer devices, given by handles, at ``HOST:PORT``. Returns only if that fails.

    ``cache``: folder in which the server keeps tensors that it was sent. ``log`` is called with each line of the log,
    in the thread that serves.
    """
    initialise(False)
    callback = lib.llama_log_callback(lambda level, text, _: log(text.decode("utf-8", errors="replace").rstrip()))
    _callbacks.append(callback)
    lib.llama_log_set(callback, _POINTER(0))
    start = _rpc_function("ggml_backend_rpc_start_server", None, _TEXT, _TEXT, _SIZE, _SIZE, _POINTER)
    handles = (_POINTER * len(devices))(*devices)
    start(endpoint.encode(), cache.encode() if cache else None, threads, len(devices), ctypes.cast(handles, _POINTER))


def offer_memory(device: Device, limit: Callable[[int], int]) -> None:
    """Let a device report ``limit(free)`` in place of its free bytes: ggml's CPU reports all memory as free.

    Raises :class:`MissingFeatureError` where ggml's structure of a device is not the known one.
    """
    slots = (_POINTER * (_GET_MEMORY + 1)).from_address(device.handle)
    name = ctypes.CFUNCTYPE(_TEXT, _POINTER)(slots[_GET_NAME] or 0)
    if name(device.handle) != device.name.encode():
        raise MissingFeatureError("this build of llama.cpp does not let a worker limit its memory.")
    kind = ctypes.CFUNCTYPE(None, _POINTER, _SIZES, _SIZES)
    real = kind(slots[_GET_MEMORY] or 0)

    def memory(handle: Any, free: Any, total: Any) -> None:
        real(handle, free, total)
        free[0] = max(0, min(limit(free[0]), total[0]))

    callback = kind(memory)
    _callbacks.append(callback)
    slots[_GET_MEMORY] = ctypes.cast(callback, _POINTER).value


def _rpc_function(name: str, result: Any, *arguments: Any) -> Any:
    """A function of the RPC backend, which libraries may load on demand."""
    libraries = shared_libraries()
    registry = function(libraries, "ggml_backend_reg_by_name", _POINTER, _TEXT)(b"RPC")
    find = function(libraries, "ggml_backend_reg_get_proc_address", _POINTER, _POINTER, _TEXT)
    address = find(registry, name.encode()) if registry else None
    if not address:
        raise MissingFeatureError(f"this build of llama.cpp lacks {name}.")
    return ctypes.CFUNCTYPE(result, *arguments)(address)
