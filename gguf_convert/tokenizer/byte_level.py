"""Byte-level BPE as in GPT-2: a pattern splits text into words, bytes are written as letters, words are merged.

Used by Qwen, Llama 3, SmolLM and others. Token types follow llama.cpp's converter (``conversion/base.py``,
``get_vocab_base``).
"""

from __future__ import annotations

from collections.abc import Sequence

from gguf_convert.checkpoint.json_fields import Fields, shorten
from gguf_convert.tokenizer.gguf_tokens import GgufTokens
from gguf_convert.tokenizer.pre_tokenizers import pre_tokenizer_name
from gguf_convert.tokenizer.tokens import Merge, Tokens, looks_special
from gguf_convert.tokenizer.vocabulary import CONTROL, NORMAL, UNUSED, USER_DEFINED
from localspec.errors import ConvertError

_NFC = {"type": "NFC"}


def gguf_tokens(tokenizer: Fields, tokens: Tokens, merges: Sequence[Merge]) -> GgufTokens:
    """Return the tokens for ``tokenizer.ggml.model`` "gpt2"; ConvertError if llama.cpp would tokenise differently."""
    notes = _check_normalizer(tokenizer)
    model = tokenizer.object("model")
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.text(key, ""):
            raise ConvertError(f'{tokenizer.where} sets "{key}" to {shorten(model.values[key])}, unknown to llama.cpp.')
    return GgufTokens(
        settings={"model": "gpt2", "pre": pre_tokenizer_name(tokenizer)},
        texts=tokens.filled(),
        types=tuple(UNUSED if text is None else _type(text, tokens) for text in tokens.texts),
        merges=tuple(f"{left} {right}" for left, right in merges),
        notes=notes,
    )


def _check_normalizer(tokenizer: Fields) -> tuple[str, ...]:
    normalizer = tokenizer.object("normalizer", required=False)
    steps = normalizer.values.get("normalizers") if normalizer.text("type", "") == "Sequence" else [normalizer.values]
    if steps in ([{}], []):
        return ()
    if steps != [_NFC]:
        raise ConvertError(
            f"{tokenizer.where} has the normalizer {shorten(steps)}; llama.cpp changes no text before byte-level BPE."
        )
    return (
        "llama.cpp does not compose characters (Unicode NFC) before tokenising, as transformers does: "
        "text with separate accents gives other tokens unless it is composed first.",
    )


def _type(text: str, tokens: Tokens) -> int:
    if text not in tokens.added:
        return NORMAL
    return CONTROL if tokens.added[text].special or looks_special(text) else USER_DEFINED
