"""Describe machine, versions, load and memory of a measurement."""

from __future__ import annotations

import subprocess
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]


def about(server: str | None = None) -> dict[str, Any]:
    """Return machine, date and versions; nothing that identifies a person or a host."""
    from localspec.bench.machine import machine

    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": machine(),
        "busy": busy(),
        "commit": output_of(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]),
        "llama_cpp": _binding(),
        "server": output_of([server, "--version"]) if server else None,
    }


def busy(seconds: float = 1.0) -> float | None:
    """Return the share of all cores in use while this program waits; None where the system does not report it."""
    before = _ticks()
    time.sleep(seconds)
    after = _ticks()
    if before is None or after is None or after[1] == before[1]:
        return None
    return round(1.0 - (after[0] - before[0]) / (after[1] - before[1]), 3)


def peak_rss(pid: int | str = "self") -> int | None:
    """Return a process's peak memory in bytes, touched mapped files included; None where the system reports none."""
    return _status(pid, "VmHWM")


def anonymous_rss(pid: int | str = "self") -> int | None:
    """Return the bytes of a process's memory that no file backs."""
    return _status(pid, "RssAnon")


def _ticks() -> tuple[int, int] | None:
    """Return idle and all ticks of all cores since the start (Linux)."""
    try:
        values = [int(word) for word in Path("/proc/stat").read_text(encoding="utf-8").split("\n")[0].split()[1:9]]
    except (OSError, ValueError):
        return None
    return values[3] + values[4], sum(values)


def _status(pid: int | str, field: str) -> int | None:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), None)


def output_of(command: list[str]) -> str | None:
    """Return the first line that a command prints; None if it fails: an error message is no version."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = (done.stdout or done.stderr).strip().splitlines()  # llama-server prints its version to stderr
    return lines[0] if lines else None


def _binding() -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("llama-cpp-python")
    except PackageNotFoundError:
        return None
