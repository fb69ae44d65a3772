"""The host's memory and physical cores, read from the operating system."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path

#: Longest wait for a system command, in seconds.
_TIMEOUT_S = 2
#: Logical CPUs up to which all count as cores where the system does not list its cores.
_FEW_CPUS = 4


def total_memory() -> int | None:
    """Bytes of physical memory, or a container's limit; None where the system does not say."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # "max" where there is no limit
            total = min(total, int(Path("/sys/fs/cgroup", name).read_text()))
    return total


def peak_memory() -> int | None:
    """Most bytes of memory that this process had, mapped files that it touched included; None where unknown."""
    try:  # getrusage on Linux also counts the program that started this one
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return _peak_from_psutil()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # getrusage(2): bytes there, KiB elsewhere


def _peak_from_psutil() -> int | None:
    try:
        psutil = import_module("psutil")
    except ImportError:
        return None
    peak = getattr(psutil.Process().memory_info(), "peak_wset", None)
    return int(peak) if peak else None


def available_memory() -> int | None:
    """Bytes that a program can have without swapping others out; None where the system does not say."""
    with suppress(OSError, ValueError):
        return parse_available(Path("/proc/meminfo").read_text())
    with suppress(OSError, ValueError, subprocess.SubprocessError):
        return parse_available(_output("vm_stat"))
    return None


def parse_available(report: str) -> int:
    """From ``/proc/meminfo`` (Linux), or the output of ``vm_stat`` (macOS: free, inactive and purgeable pages).

    Raises ValueError for anything else.
    """
    if found := re.search(r"^MemAvailable: +(\d+) kB", report, re.MULTILINE):
        return int(found[1]) * 1024
    page = re.search(r"page size of (\d+) bytes", report)
    pages = re.findall(r"^Pages (?:free|inactive|speculative|purgeable): +(\d+)", report, re.MULTILINE)
    if page is None or not pages:
        raise ValueError(report[:100])
    return int(page[1]) * sum(map(int, pages))


@cache
def default_threads() -> int:
    """The physical cores that this process may use. A second thread on a core only waits for memory."""
    if sys.platform == "darwin":
        for key in ("hw.perflevel0.physicalcpu", "hw.physicalcpu"):
            with suppress(OSError, ValueError, subprocess.SubprocessError):
                return max(1, int(_output("sysctl", "-n", key)))
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = set()
    for cpu in allowed:
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            cores.add(((topology / "physical_package_id").read_text(), (topology / "core_id").read_text()))
        except OSError:
            return max(1, len(allowed) if len(allowed) <= _FEW_CPUS else len(allowed) // 2)
    return max(1, len(cores))


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True).stdout
