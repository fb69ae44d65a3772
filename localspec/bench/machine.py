"""What a measurement was made on, and the most memory that it took."""

from __future__ import annotations

import os
import platform
import sys
from importlib import import_module
from pathlib import Path

from localspec.backends.devices import total_memory


def machine() -> str:
    """Processor, cores, memory: nothing that names a person or a host."""
    memory = total_memory()
    return f"{_processor()}, {os.cpu_count()} cores" + (f", {memory / 2**30:.0f} GiB" if memory else "")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


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
