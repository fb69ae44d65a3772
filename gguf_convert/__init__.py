"""Hugging Face checkpoints → GGUF files for a target and its drafter, quantised, without torch.

Knows nothing about running a model; of localspec it imports only the errors. Importing the package is cheap:
numpy and gguf are loaded when something is converted.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gguf_convert.arch import supported
    from gguf_convert.checking import Check, check
    from gguf_convert.conversion import Report, convert
    from gguf_convert.quantize import Fallback

TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0")
"""The types a file can be converted to."""

__all__ = ["TYPES", "Check", "Fallback", "Report", "check", "convert", "supported"]

_HOMES = {
    "supported": "gguf_convert.arch",
    "Check": "gguf_convert.checking",
    "check": "gguf_convert.checking",
    "Report": "gguf_convert.conversion",
    "convert": "gguf_convert.conversion",
    "Fallback": "gguf_convert.quantize",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
