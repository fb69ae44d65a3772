"""What a measurement was made on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from localspec.llama.devices import total_memory


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
