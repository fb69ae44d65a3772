"""Gemma 3's tokenizer as SentencePiece: scores in place of merges, as in the official GGUF files.

SentencePiece joins the neighbours whose joint text has the best score, the leftmost first; ``tokenizers`` applies
the merge of lowest rank. Both give the same ids if the merges were made from scores: every split of a token is a
merge, and the merges of a token with a better score come first. This is checked for each tokenizer.

llama.cpp would also tokenise Gemma 3 correctly with merges (``gemma_bpe``). But it drafts only between models of the
same type of vocabulary, and the published files of Gemma 3 have this one.
"""

from __future__ import annotations

from collections.abc import Sequence

from gguf_convert.tokenizer.gemma_bpe import BYTE_TOKEN
from gguf_convert.tokenizer.gguf_tokens import GgufTokens
from gguf_convert.tokenizer.tokens import Merge, Tokens, looks_special
from gguf_convert.tokenizer.vocabulary import BYTE, CONTROL, NORMAL, UNUSED, USER_DEFINED

#: Score of added tokens in the official files. It is never compared, because added tokens are matched first.
_ADDED_SCORE = -1000.0


def gguf_tokens(tokens: Tokens, merges: Sequence[Merge]) -> GgufTokens | None:
    """Return the tokens for ``tokenizer.ggml.model`` "llama"; None if scores would not give the ids of the merges."""
    order = _token_order(tokens, merges)
    if order is None or not _complete(tokens, merges) or not _runs_come_first(tokens, merges):
        return None
    types = tuple(UNUSED if text is None else _type(text, tokens) for text in tokens.texts)
    texts = tuple(
        text.replace("▁", " ") if kind == USER_DEFINED else text  # matched before spaces become "▁"
        for text, kind in zip(tokens.filled(), types, strict=True)
    )
    if len(set(texts)) < len(texts):
        return None
    settings = {
        "model": "llama",
        "pre": "default",
        "scores": _scores(tokens, types, order),
        "add_space_prefix": False,
    }
    return GgufTokens(settings, texts, types)


def _token_order(tokens: Tokens, merges: Sequence[Merge]) -> dict[str, int] | None:
    """Return merged tokens by first appearance, without added ones; None if the merges of a token are not adjacent."""
    order: dict[str, int] = {}
    last = ""
    for left, right in merges:
        token = left + right
        if token in tokens.added:
            continue
        if token != last and order.setdefault(token, len(order)) != len(order) - 1:
            return None
        last = token
    return order


def _complete(tokens: Tokens, merges: Sequence[Merge]) -> bool:
    """Return True if every split of an ordinary token into two ordinary tokens is a merge."""
    known = set(merges)
    # bytes and added tokens never come from joining characters
    plain = {text for text in tokens.ids if text not in tokens.added and not BYTE_TOKEN.fullmatch(text)}
    return all(
        (text[:cut], text[cut:]) in known
        for text in plain
        for cut in range(1, len(text))
        if text[:cut] in plain and text[cut:] in plain
    )


def _runs_come_first(tokens: Tokens, merges: Sequence[Merge]) -> bool:
    """Return True if added tokens with "▁" are runs of it that are merged before all other tokens.

    ``tokenizers`` builds them by merging, because a text has no "▁" yet when it matches added tokens. llama.cpp matches
    them.
    """
    runs = {text for text in tokens.added if "▁" in text}
    if any(text.strip("▁") for text in runs):
        return False
    started = False
    for left, right in merges:
        if left + right in runs:
            if started:
                return False
        elif left.endswith("▁") or right.startswith("▁"):
            started = True
    return True


def _type(text: str, tokens: Tokens) -> int:
    if BYTE_TOKEN.fullmatch(text):
        return BYTE
    if text in tokens.added:
        return CONTROL if tokens.added[text].special or looks_special(text) else USER_DEFINED
    return NORMAL


def _scores(tokens: Tokens, types: Sequence[int], order: dict[str, int]) -> list[float]:
    """Return 0, -1, -2, … for merged tokens in order, then for single characters; only the order matters."""
    normal = [text for text, kind in zip(tokens.texts, types, strict=True) if text is not None and kind == NORMAL]
    merged = sorted((text for text in normal if text in order), key=order.__getitem__)
    single = [text for text in normal if text not in order]
    score = {text: -float(place) for place, text in enumerate((*merged, *single))}
    default = {BYTE: 0.0, NORMAL: 0.0, UNUSED: _ADDED_SCORE, CONTROL: _ADDED_SCORE, USER_DEFINED: _ADDED_SCORE}
    return [score.get(text or "", default[kind]) for text, kind in zip(tokens.texts, types, strict=True)]
