"""Tokens that a tokenizer adds before and after a text: the keys for BOS and EOS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gguf_convert.checkpoint.json_fields import Fields, shorten


@dataclass(frozen=True)
class AddedAround:
    """Ids of the tokens added ``before`` and ``after`` a text; None if there is no post-processor for it.

    A piece without a known token id counts as id -1.
    """

    before: tuple[int, ...] | None
    after: tuple[int, ...] | None

    @property
    def first(self) -> int | None:
        """Return the token before a text if it is the only one. It serves as BOS token if no other is named."""
        return self.before[0] if self.before is not None and len(self.before) == 1 else None


def read_post_processor(tokenizer: Fields) -> AddedAround:
    """Read the post-processor: the last ``TemplateProcessing`` decides, a ``ByteLevel`` alone adds nothing."""
    before: tuple[int, ...] | None = None
    after: tuple[int, ...] | None = None
    for processor in _flat(tokenizer.values.get("post_processor")):
        if processor.get("type") == "ByteLevel":
            before, after = before or (), after or ()
        elif processor.get("type") == "TemplateProcessing":
            before, after = _around(processor)
    return AddedAround(before, after)


def bos_eos_keys(around: AddedAround, settings: Fields, special: Mapping[str, int]) -> dict[str, bool]:
    """Return ``add_bos_token`` and ``add_eos_token`` below ``tokenizer.ggml.``.

    Both are always written, because llama.cpp has other defaults. The post-processor decides; without one,
    ``tokenizer_config.json`` does.
    """
    found: dict[str, bool] = {}
    for name, side in (("bos", around.before), ("eos", around.after)):
        key = f"add_{name}_token"
        if side is None:
            found[key] = settings.values.get(key) is True and name in special
        else:
            found[key] = len(side) == 1 and side[0] == special.get(name)
    return found


def unsupported_notes(around: AddedAround, keys: Mapping[str, bool], texts: tuple[str, ...]) -> list[str]:
    """Return a note for tokens that the tokenizer adds and llama.cpp cannot add."""
    found: list[str] = []
    for key, where, side in (("add_bos_token", "before", around.before), ("add_eos_token", "after", around.after)):
        if side and not keys[key]:
            names = [texts[token] if 0 <= token < len(texts) else "?" for token in side]
            found.append(f"The tokenizer puts {shorten(names)} {where} a text, which llama.cpp will not add.")
    return found


def _flat(processor: Any) -> list[dict[str, Any]]:
    if not isinstance(processor, dict):
        return []
    inner = processor.get("processors")
    entries = inner if isinstance(inner, list) else [processor]
    return [entry for entry in entries if isinstance(entry, dict)]


def _around(processor: dict[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the token ids before and after the text in the template for a single text."""
    before: list[int] = []
    after: list[int] = []
    side = before
    pieces = processor.get("single")
    for piece in pieces if isinstance(pieces, list) else []:
        token = piece.get("SpecialToken") if isinstance(piece, dict) else None
        if token is None:
            side = after
        else:
            side.extend(_ids(processor.get("special_tokens"), token))
    return tuple(before), tuple(after)


def _ids(known: Any, token: Any) -> list[int]:
    name = token.get("id") if isinstance(token, dict) else None
    entry = known.get(name) if isinstance(known, dict) and isinstance(name, str) else None
    ids = entry.get("ids") if isinstance(entry, dict) else None
    return [value if type(value) is int else -1 for value in ids] if isinstance(ids, list) else [-1]
