"""GPT-2's kind of BPE: text cut into words by a pattern, bytes written as letters, merges within a word.

Qwen, Llama 3, SmolLM and their relatives. Token types follow llama.cpp's converter (``conversion/base.py``,
``get_vocab_base``).
"""

from __future__ import annotations

from typing import Any

from gguf_convert.fields import Fields, shorten
from gguf_convert.tokenizer.pre_tokenizers import pre_tokenizer_name
from gguf_convert.tokenizer.tokens import Tokens
from gguf_convert.tokenizer.vocabulary import CONTROL, NORMAL, UNUSED, USER_DEFINED
from localspec.errors import ConvertError

# Added tokens that some checkpoints forget to flag as special.
_LOOKS_SPECIAL = frozenset(("<pad>", "<mask>", "<2mass>", "[@BOS@]"))
_BRACKETS = (("<|", "|>"), ("<｜", "｜>"), ("<unused", ">"))


def settings(tokenizer: Fields) -> dict[str, Any]:
    """Keys below ``tokenizer.ggml.``; ConvertError when llama.cpp would not tokenise this way."""
    normalizer = tokenizer.values.get("normalizer")
    steps = (
        normalizer.get("normalizers") if isinstance(normalizer, dict) and "normalizers" in normalizer else normalizer
    )
    if steps not in (None, [], {"type": "NFC"}, [{"type": "NFC"}]):
        raise ConvertError(
            f"{tokenizer.where} has the normalizer {shorten(normalizer)}; "
            "llama.cpp changes no text before byte-level BPE."
        )
    model = tokenizer.object("model")
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.text(key, ""):
            raise ConvertError(f'{tokenizer.where} sets "{key}" to {shorten(model.values[key])}, unknown to llama.cpp.')
    return {"model": "gpt2", "pre": pre_tokenizer_name(tokenizer)}


def types(tokens: Tokens) -> tuple[int, ...]:
    """The type of every token by id."""
    return tuple(UNUSED if text is None else _type(text, tokens) for text in tokens.texts)


def _type(text: str, tokens: Tokens) -> int:
    if text not in tokens.added:
        return NORMAL
    looks_special = text in _LOOKS_SPECIAL or any(
        text.startswith(left) and text.endswith(right) for left, right in _BRACKETS
    )
    return CONTROL if tokens.added[text].special or looks_special else USER_DEFINED
