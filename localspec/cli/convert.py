"""``localspec convert``: a Hugging Face checkpoint to a GGUF file; the command is the converter's own."""

from __future__ import annotations

from gguf_convert.cli import convert

__all__ = ["convert"]
