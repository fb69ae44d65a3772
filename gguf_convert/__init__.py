"""Convert Hugging Face checkpoints to GGUF files for a target and its drafter, and quantise them, without torch.

Data flow: ``checkpoint/`` is mapped by ``arch/`` and ``tokenizer/`` to tensors and metadata, which ``output/`` writes;
``conversion`` runs these steps. ``quantization/`` and ``trimming/`` make smaller files of a GGUF file, ``checking/``
compares a file with its checkpoint. ``projector/`` maps and writes the encoders of pictures and sound. Importing the
package is cheap: numpy and gguf are loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gguf_convert.arch import supported
    from gguf_convert.checking.check import Check, check
    from gguf_convert.conversion import convert
    from gguf_convert.projector.convert import convert_projector
    from gguf_convert.quantization.quantize import QuantizeProgress, quantize
    from gguf_convert.report import Fallback, Report
    from gguf_convert.trimming.trim import TrimReport, trim

from gguf_convert.recipes import PROJECTOR_TYPES, ROLES
from localspec.gguf.types import FILE_TYPES

TYPES = tuple(FILE_TYPES)
"""Types of a file, as llama.cpp spells them; "Q4_K" and the like mean the M variant."""

__all__ = [
    "PROJECTOR_TYPES",
    "ROLES",
    "TYPES",
    "Check",
    "Fallback",
    "QuantizeProgress",
    "Report",
    "TrimReport",
    "check",
    "convert",
    "convert_projector",
    "quantize",
    "supported",
    "trim",
]

#: Module of every name that is loaded on first use.
_HOMES = {
    "supported": "arch",
    "Check": "checking.check",
    "check": "checking.check",
    "convert": "conversion",
    "convert_projector": "projector.convert",
    "QuantizeProgress": "quantization.quantize",
    "quantize": "quantization.quantize",
    "Fallback": "report",
    "Report": "report",
    "TrimReport": "trimming.trim",
    "trim": "trimming.trim",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
