"""Gemma's kind of BPE: spaces as "▁", merges across the whole text, bytes without a token as ``<0xXX>``."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gguf_convert.fields import Fields, shorten
from gguf_convert.tokenizer.layout import Layout
from gguf_convert.tokenizer.tokens import Merge, Tokens
from gguf_convert.tokenizer.vocabulary import BYTE, CONTROL, NORMAL, UNUSED, USER_DEFINED
from localspec.errors import ConvertError

# Always rendered, so that a chat parser can read them (llama.cpp, conversion/gemma.py, Gemma4Model).
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
_SCORE = -1000.0  # llama.cpp's converter writes this for every token; BPE does not read it
_SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}


def check(tokenizer: Fields) -> None:
    """ConvertError when the text is changed or cut before the merges in a way that llama.cpp does not know."""
    normalizer = tokenizer.object("normalizer")
    steps = normalizer.values.get("normalizers") if normalizer.text("type", "") == "Sequence" else [normalizer.values]
    if steps != [_SPACES]:
        raise ConvertError(
            f"{tokenizer.where} has the normalizer {shorten(steps)}; "
            'llama.cpp\'s Gemma tokenisers only replace spaces by "▁".'
        )
    cut = tokenizer.object("pre_tokenizer", required=False)
    # no space is left to cut at
    if cut.values and (cut.values.get("type"), cut.values.get("pattern")) != ("Split", {"String": " "}):
        raise ConvertError(
            f"{tokenizer.where} has the pre-tokenizer {shorten(cut.values)}; "
            "llama.cpp's Gemma tokenisers do not cut text before merging."
        )


def layout(tokens: Tokens, merges: Sequence[Merge]) -> Layout:
    """The layout for ``tokenizer.ggml.model`` "gemma4"."""
    texts = tokens.filled()
    return Layout(
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
    # An added token that is not special is matched before the merges apply. llama.cpp does so for USER_DEFINED
    # tokens, but shows their text as it is, so tokens with "▁" for a space must be left to the merges.
    return USER_DEFINED if text in tokens.added and "▁" not in text else NORMAL


def _notes(merges: Sequence[Merge]) -> tuple[str, ...]:
    mixed = [left + right for left, right in merges if "\n" in left + right and (left + right).strip("\n")]
    if not mixed:
        return ()
    return (
        f"{len(mixed)} merges join line breaks with other text (such as {shorten(mixed[0])}), which llama.cpp "
        "never does: it will tokenise such text differently from transformers.",
    )
