"""What a tokenizer puts before and after a text: whether llama.cpp is to add BOS and EOS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gguf_convert.fields import Fields, shorten


@dataclass(frozen=True)
class Surroundings:
    """Token ids that the post-processor puts ``before`` and ``after`` a text, both None when it does not say.

    A piece that is no token with a known id counts as id -1.
    """

    before: tuple[int, ...] | None
    after: tuple[int, ...] | None

    @property
    def first(self) -> int | None:
        """The one token before a text, which is the BOS token if nothing else is called so."""
        return self.before[0] if self.before is not None and len(self.before) == 1 else None


def read_surroundings(tokenizer: Fields) -> Surroundings:
    """From the post-processor: the last ``TemplateProcessing`` decides, a ``ByteLevel`` alone adds nothing."""
    before: tuple[int, ...] | None = None
    after: tuple[int, ...] | None = None
    for processor in _flat(tokenizer.values.get("post_processor")):
        if processor.get("type") == "ByteLevel":
            before, after = before or (), after or ()
        elif processor.get("type") == "TemplateProcessing":
            before, after = _around(processor)
    return Surroundings(before, after)


def added(around: Surroundings, settings: Fields, special: Mapping[str, int]) -> dict[str, bool]:
    """``add_bos_token`` and ``add_eos_token`` below ``tokenizer.ggml.``; always both, for llama.cpp has own defaults.

    The post-processor is what acts; where it does not say, ``tokenizer_config.json`` does.
    """
    found: dict[str, bool] = {}
    for name, side in (("bos", around.before), ("eos", around.after)):
        key = f"add_{name}_token"
        if side is None:
            found[key] = settings.values.get(key) is True and name in special
        else:
            found[key] = len(side) == 1 and side[0] == special.get(name)
    return found


def notes(around: Surroundings, keys: Mapping[str, bool], texts: tuple[str, ...]) -> list[str]:
    """What the tokenizer adds and llama.cpp cannot."""
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
    """Token ids before and after the text in the template for a single text."""
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
