"""What the machine has: llama.cpp's devices through ggml's C functions, its memory, and its physical cores.

Takes the loaded libraries as arguments; it imports nothing of llama.cpp itself.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from localspec.errors import MissingFeatureError, UsageError
from localspec.params import ContextParams

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
    """Place ``gpu_layers`` on the GPUs, if there are any (None: all; :mod:`localspec.memory.fit` finds how many fit).

    Raises :class:`UsageError` for a device that is not there, naming those that are.
    """
    gpus = chosen_gpus(devices, params)
    layers = params.gpu_layers if params.gpu_layers is not None else (-1 if gpus else 0)
    if params.device is None:
        return Placement(gpu=bool(gpus) and layers != 0, layers=layers)
    if not gpus:
        return Placement(gpu=False, layers=0, handles=(ctypes.c_void_p * 1)(None))
    return Placement(gpu=layers != 0, layers=layers, handles=(ctypes.c_void_p * 2)(gpus[0].handle, None))


def chosen_gpus(devices: Sequence[Device], params: ContextParams) -> list[Device]:
    """The GPUs that layers may go to: the one that is named, else those that llama.cpp takes by itself.

    It takes every GPU with a memory of its own, and one that shares the host's only where there is no other.
    """
    gpus = [device for device in devices if device.kind in ("gpu", "igpu")]
    if params.device is None:
        return [device for device in gpus if device.kind == "gpu"] or gpus
    wanted = params.device.lower()
    if wanted in ("none", "cpu"):
        return []
    named = [device for device in gpus if device.name.lower() == wanted]
    if named:
        return named[:1]
    names = ", ".join(["cpu", *(device.name for device in gpus)])
    raise UsageError(f"there is no device {params.device!r}; there is: {names}. `localspec devices` tells more.")


def total_memory() -> int | None:
    """Bytes of physical memory, or what a container may have of it; None where the system does not say."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # "max" where there is no limit
            total = min(total, int(Path("/sys/fs/cgroup", name).read_text()))
    return total


def peak_memory() -> int | None:
    """Bytes of memory that this process had at most, mapped files that it touched included; None where nobody tells."""
    try:  # on Linux getrusage would also tell of the program that started this one
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return _peak_of_psutil()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # getrusage(2): bytes there, KiB elsewhere


def _peak_of_psutil() -> int | None:
    try:
        psutil = import_module("psutil")
    except ImportError:
        return None
    peak = getattr(psutil.Process().memory_info(), "peak_wset", None)
    return int(peak) if peak else None


def available_memory() -> int | None:
    """Bytes that a program can still have without others giving up theirs, or None where the system does not say."""
    with suppress(OSError, ValueError):
        return memory_available(Path("/proc/meminfo").read_text())
    with suppress(OSError, ValueError, subprocess.SubprocessError):
        found = subprocess.run(["vm_stat"], capture_output=True, text=True, timeout=2, check=True)
        return memory_available(found.stdout)
    return None


def memory_available(told: str) -> int:
    """From ``/proc/meminfo`` (Linux), or from what ``vm_stat`` prints (macOS: free, inactive and purgeable pages).

    Raises ValueError for anything else.
    """
    if found := re.search(r"^MemAvailable: +(\d+) kB", told, re.MULTILINE):
        return int(found[1]) * 1024
    page = re.search(r"page size of (\d+) bytes", told)
    pages = re.findall(r"^Pages (?:free|inactive|speculative|purgeable): +(\d+)", told, re.MULTILINE)
    if page is None or not pages:
        raise ValueError(told[:100])
    return int(page[1]) * sum(map(int, pages))


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
