"""Python in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def child(code: str, target: str | Path = "tiny", draft: str = "auto") -> subprocess.CompletedProcess[str]:
    """Python in a process of its own, because llama.cpp may abort it."""
    start = f"import localspec; llm = localspec.load({str(target)!r}, {draft!r}, threads=1)\n"
    return subprocess.run(
        [sys.executable, "-c", start + code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "GGML_NO_BACKTRACE": "1"},
    )
