"""What a measurement was made on: one line about the machine, and what tells one build of the code from another."""

from __future__ import annotations

import subprocess
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]


def about(server: str | None = None) -> dict[str, Any]:
    """Machine, date and versions; nothing that identifies a person or a host."""
    from localspec.bench.machine import machine

    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": machine(),
        "busy": busy(),
        "commit": _said(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]),
        "llama_cpp": _binding(),
        "server": _said([server, "--version"]) if server else None,
    }


def busy(seconds: float = 1.0) -> float | None:
    """Share of all cores that programs use now, while this one waits; None where nobody tells."""
    before = _ticks()
    time.sleep(seconds)
    after = _ticks()
    if before is None or after is None or after[1] == before[1]:
        return None
    return round(1.0 - (after[0] - before[0]) / (after[1] - before[1]), 3)


def peak_rss(pid: int | str = "self") -> int | None:
    """Bytes of memory that a process had at most, mapped files that it touched included; None where nobody tells."""
    return _status(pid, "VmHWM")


def anonymous_rss(pid: int | str = "self") -> int | None:
    """Bytes of memory that a process has now and that no file backs."""
    return _status(pid, "RssAnon")


def _ticks() -> tuple[int, int] | None:
    """Idle and all ticks of all cores since the start (Linux)."""
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


def _said(command: list[str]) -> str | None:
    """The first line of what a command says."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    said = (done.stdout or done.stderr).strip().splitlines()
    return said[0] if said else None


def _binding() -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("llama-cpp-python")
    except PackageNotFoundError:
        return None
