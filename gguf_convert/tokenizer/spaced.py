"""Gemma's kind of BPE: spaces as "▁", merges across the whole text, bytes without a token as ``<0xXX>``."""

from __future__ import annotations

import re
from typing import Any

from gguf_convert.fields import Fields, shorten
from gguf_convert.tokenizer.tokens import Tokens
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
_SCORE = -1000.0  # llama.cpp's converter writes this for every token; BPE does not read it
_BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}


def settings(tokenizer: Fields, rows: int) -> dict[str, Any]:
    """Keys below ``tokenizer.ggml.``; ConvertError when llama.cpp would not tokenise this way."""
    normalizer = tokenizer.object("normalizer")
    steps = normalizer.values.get("normalizers") if normalizer.text("type", "") == "Sequence" else [normalizer.values]
    if steps != [_SPACES]:
        raise ConvertError(
            f"{tokenizer.where} has the normalizer {shorten(steps)}; "
            'llama.cpp\'s Gemma 4 tokeniser only replaces spaces by "▁".'
        )
    return {"model": "gemma4", "scores": [_SCORE] * rows, "add_space_prefix": False}


def types(tokens: Tokens, special_names: set[str]) -> tuple[int, ...]:
    """The type of every token by id."""
    return tuple(UNUSED if text is None else _type(text, tokens, special_names) for text in tokens.texts)


def _type(text: str, tokens: Tokens, special_names: set[str]) -> int:
    if text in VISIBLE:
        return USER_DEFINED
    if _BYTE_TOKEN.fullmatch(text):
        return BYTE
    if text in special_names or (text in tokens.added and tokens.added[text].special):
        return CONTROL
    # An added token that is not special is matched before the merges apply. llama.cpp does so for
    # USER_DEFINED tokens, but before spaces become "▁", so tokens with "▁" must be left to the merges.
    return USER_DEFINED if text in tokens.added and "▁" not in text else NORMAL


def notes(merges: list[tuple[str, str]]) -> tuple[str, ...]:
    """Where llama.cpp will tokenise differently from transformers."""
    mixed = [left + right for left, right in merges if "\n" in left + right and (left + right).strip("\n")]
    if not mixed:
        return ()
    return (
        f"{len(mixed)} merges join line breaks with other text (such as {shorten(mixed[0])}), which llama.cpp "
        "never does: it will tokenise such text differently from transformers.",
    )
