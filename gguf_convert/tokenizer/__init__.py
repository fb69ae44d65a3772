"""The tokenizer of a checkpoint as metadata of a GGUF file, without the ``tokenizers`` library.

Two kinds are read: byte-level BPE as in GPT-2 (Qwen, Llama 3, SmolLM), and BPE over "▁" with byte fallback (Gemma).
Every token keeps its id.
"""

from __future__ import annotations

from gguf_convert.tokenizer.read import read_vocabulary
from gguf_convert.tokenizer.vocabulary import BYTE, CONTROL, NORMAL, UNUSED, USER_DEFINED, GgufVocabulary

__all__ = ["BYTE", "CONTROL", "NORMAL", "UNUSED", "USER_DEFINED", "GgufVocabulary", "read_vocabulary"]
