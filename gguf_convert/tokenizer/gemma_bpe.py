"""BPE as in Gemma: spaces as "▁", merges across the whole text, bytes without a token as ``<0xXX>``."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gguf_convert.checkpoint.json_fields import Fields, shorten
from gguf_convert.tokenizer.gguf_tokens import GgufTokens
from gguf_convert.tokenizer.tokens import Merge, Tokens
from gguf_convert.tokenizer.vocabulary import BYTE, CONTROL, NORMAL, UNUSED, USER_DEFINED
from localspec.errors import ConvertError

#: Tokens that are always printed, so that a chat parser can read them (llama.cpp, conversion/gemma.py, Gemma4Model).
VISIBLE = frozenset(
    (
        "<|channel>",
        "<channel|>",
        "<|tool_call>",
        "<tool_call|>",
        "<|tool_response>",
        "<tool_response|>",
        '<|"|>',
    )
)
BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")
#: Score of every token in files of llama.cpp's converter. BPE does not read it.
_SCORE = -1000.0
_SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}


def check(tokenizer: Fields) -> None:
    """Raise ConvertError if text is changed or split before the merges in a way that llama.cpp does not support."""
    normalizer = tokenizer.object("normalizer")
    steps = normalizer.values.get("normalizers") if normalizer.text("type", "") == "Sequence" else [normalizer.values]
    if steps != [_SPACES]:
        raise ConvertError(
            f"{tokenizer.where} has the normalizer {shorten(steps)}; "
            'llama.cpp\'s Gemma tokenisers only replace spaces by "▁".'
        )
    split = tokenizer.object("pre_tokenizer", required=False)
    # the normalizer leaves no space to split at
    if split.values and (split.values.get("type"), split.values.get("pattern")) != ("Split", {"String": " "}):
        raise ConvertError(
            f"{tokenizer.where} has the pre-tokenizer {shorten(split.values)}; "
            "llama.cpp's Gemma tokenisers do not split text before merging."
        )


def gguf_tokens(tokens: Tokens, merges: Sequence[Merge]) -> GgufTokens:
    """Return the tokens for ``tokenizer.ggml.model`` "gemma4"."""
    texts = tokens.filled()
    return GgufTokens(
        settings={"model": "gemma4", "scores": [_SCORE] * len(texts), "add_space_prefix": False},
        texts=texts,
        types=tuple(UNUSED if text is None else _type(text, tokens) for text in tokens.texts),
        merges=tuple(f"{left} {right}" for left, right in merges),
        notes=_notes(merges),
    )


def _type(text: str, tokens: Tokens) -> int:
    if text in VISIBLE:
        return USER_DEFINED
    if BYTE_TOKEN.fullmatch(text):
        return BYTE
    if tokens.is_special(text):
        return CONTROL
    # Added tokens that are not special are matched before the merges apply. llama.cpp does so for USER_DEFINED
    # tokens, but prints their text unchanged, so tokens with "▁" for a space are left to the merges.
    return USER_DEFINED if text in tokens.added and "▁" not in text else NORMAL


def _notes(merges: Sequence[Merge]) -> tuple[str, ...]:
    mixed = [left + right for left, right in merges if "\n" in left + right and (left + right).strip("\n")]
    if not mixed:
        return ()
    return (
        f"{len(mixed)} merges join line breaks with other text (such as {shorten(mixed[0])}), which llama.cpp "
        "never does: it will tokenise such text differently from transformers.",
    )
