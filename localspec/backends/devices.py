"""What the machine has: llama.cpp's devices through ggml's C functions, and its physical cores.

Takes the loaded libraries as arguments; it imports nothing of llama.cpp itself.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from localspec.config import ContextParams
from localspec.errors import MissingFeatureError, UsageError

Kind = Literal["cpu", "gpu", "igpu", "accel"]
_KINDS: dict[int, Kind] = {0: "cpu", 1: "gpu", 2: "igpu", 3: "accel"}


@dataclass(frozen=True)
class Device:
    """A device that llama.cpp can compute on; memory in bytes (0: it does not say)."""

    name: str
    description: str
    kind: Kind
    memory_free: int
    memory_total: int
    backend: str
    handle: int = field(repr=False, compare=False, default=0)


@dataclass(frozen=True)
class Placement:
    """Where a model goes: ``handles`` is a NULL-terminated array of devices, or None for llama.cpp's choice."""

    gpu: bool
    layers: int
    handles: Any = None


def _call(libraries: Sequence[ctypes.CDLL], name: str, restype: Any, *argtypes: Any) -> Any:
    for library in libraries:
        try:
            function = library[name]
        except AttributeError:
            continue
        function.restype, function.argtypes = restype, list(argtypes)
        return function
    raise MissingFeatureError(f"this build of llama.cpp lacks {name}; install llama-cpp-python 0.3.36 or newer.")


def list_devices(libraries: Sequence[ctypes.CDLL]) -> list[Device]:
    """All devices, in llama.cpp's order."""
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    count = _call(libraries, "ggml_backend_dev_count", size)
    get = _call(libraries, "ggml_backend_dev_get", pointer, size)
    name = _call(libraries, "ggml_backend_dev_name", ctypes.c_char_p, pointer)
    description = _call(libraries, "ggml_backend_dev_description", ctypes.c_char_p, pointer)
    kind = _call(libraries, "ggml_backend_dev_type", ctypes.c_int, pointer)
    memory = _call(libraries, "ggml_backend_dev_memory", None, pointer, ctypes.POINTER(size), ctypes.POINTER(size))
    registry = _call(libraries, "ggml_backend_dev_backend_reg", pointer, pointer)
    registry_name = _call(libraries, "ggml_backend_reg_name", ctypes.c_char_p, pointer)
    found = []
    for i in range(count()):
        handle, free, total = get(i), size(), size()
        memory(handle, ctypes.byref(free), ctypes.byref(total))
        found.append(
            Device(
                name(handle).decode(),
                description(handle).decode(errors="replace"),
                _KINDS.get(kind(handle), "accel"),
                free.value,
                total.value,
                registry_name(registry(handle)).decode(),
                handle,
            )
        )
    return found


def place(devices: Sequence[Device], params: ContextParams) -> Placement:
    """All layers on the GPUs where there are any, none otherwise; flags override.

    Raises :class:`UsageError` for a device that is not there, naming those that are.
    """
    gpus = [device for device in devices if device.kind in ("gpu", "igpu")]
    if params.device is None:
        layers = params.gpu_layers if params.gpu_layers is not None else (-1 if gpus else 0)
        return Placement(gpu=bool(gpus) and layers != 0, layers=layers)
    wanted = params.device.lower()
    if wanted in ("none", "cpu"):
        return Placement(gpu=False, layers=0, handles=(ctypes.c_void_p * 1)(None))
    for device in devices:
        if device.name.lower() == wanted and device in gpus:
            layers = params.gpu_layers if params.gpu_layers is not None else -1
            return Placement(gpu=layers != 0, layers=layers, handles=(ctypes.c_void_p * 2)(device.handle, None))
    names = ", ".join(["cpu", *(device.name for device in gpus)])
    raise UsageError(f"there is no device {params.device!r}; there is: {names}. `localspec devices` tells more.")


def total_memory() -> int | None:
    """Bytes of physical memory, or None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


@cache
def default_threads() -> int:
    """The physical cores that this process may use: a second thread on a core only waits for memory."""
    if sys.platform == "darwin":
        for key in ("hw.perflevel0.physicalcpu", "hw.physicalcpu"):
            try:
                found = subprocess.run(["sysctl", "-n", key], capture_output=True, text=True, timeout=2, check=True)
                return max(1, int(found.stdout))
            except (OSError, ValueError, subprocess.SubprocessError):
                continue
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = set()
    for cpu in allowed:
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            cores.add(((topology / "physical_package_id").read_text(), (topology / "core_id").read_text()))
        except OSError:
            return max(1, len(allowed) if len(allowed) <= 4 else len(allowed) // 2)
    return max(1, len(cores))
