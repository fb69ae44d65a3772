"""Hugging Face checkpoints → GGUF files for a target and its drafter, quantised, without torch.

Knows nothing about running a model; of localspec it imports the errors, the seam and the GGUF header. Importing the
package is cheap: numpy and gguf are loaded when something is converted.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gguf_convert.arch import supported
    from gguf_convert.checking import Check, check
    from gguf_convert.conversion import convert
    from gguf_convert.quantizing import Step, quantize
    from gguf_convert.report import Fallback, Report
    from gguf_convert.trimming import TrimReport, trim

from gguf_convert.recipes import ROLES
from localspec.gguf.types import FILE_TYPES

TYPES = tuple(FILE_TYPES)
"""The types that a file can have, as llama.cpp spells them; "Q4_K" and the like mean the M variant."""

__all__ = [
    "ROLES",
    "TYPES",
    "Check",
    "Fallback",
    "Report",
    "Step",
    "TrimReport",
    "check",
    "convert",
    "quantize",
    "supported",
    "trim",
]

_HOMES = {
    "supported": "gguf_convert.arch",
    "Check": "gguf_convert.checking",
    "check": "gguf_convert.checking",
    "convert": "gguf_convert.conversion",
    "Step": "gguf_convert.quantizing",
    "quantize": "gguf_convert.quantizing",
    "Fallback": "gguf_convert.report",
    "Report": "gguf_convert.report",
    "TrimReport": "gguf_convert.trimming",
    "trim": "gguf_convert.trimming",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
