"""``tokenizer.json`` → the vocabulary part of a GGUF file, without the ``tokenizers`` library.

Two kinds: byte-level BPE as in GPT-2 (Qwen, Llama 3, SmolLM), and BPE over "▁" with byte fallback (Gemma).
llama.cpp then tokenises by itself; the id of every token stays what it is in the checkpoint.
"""

from __future__ import annotations

from gguf_convert.tokenizer.reading import read_vocabulary
from gguf_convert.tokenizer.vocabulary import BYTE, CONTROL, NORMAL, UNUSED, USER_DEFINED, Vocabulary

__all__ = ["BYTE", "CONTROL", "NORMAL", "UNUSED", "USER_DEFINED", "Vocabulary", "read_vocabulary"]
