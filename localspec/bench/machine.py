"""Describe the machine of a measurement."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from localspec.llama.host import total_memory
from localspec.memory.estimate import memory_text


def machine() -> str:
    """Return processor, cores and memory; nothing that identifies a person or a host."""
    memory = total_memory()
    return f"{_processor()}, {os.cpu_count()} cores" + (f", {memory_text(memory)}" if memory else "")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
