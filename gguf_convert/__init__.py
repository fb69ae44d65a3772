"""Hugging Face checkpoints → GGUF files for a target and its drafter, quantised, without torch.

Knows nothing about running a model; of localspec it imports only the errors.
"""

from __future__ import annotations

from gguf_convert.arch import supported
from gguf_convert.convert import Report, convert
from gguf_convert.quantize import TYPES, Fallback

__all__ = ["TYPES", "Fallback", "Report", "convert", "supported"]
