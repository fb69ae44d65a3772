"""What a tokenizer puts before and after a text: whether llama.cpp is to add BOS and EOS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gguf_convert.fields import Fields, shorten


@dataclass(frozen=True)
class Surroundings:
    """``bos`` and ``eos`` are None where nothing says; ``notes`` name what llama.cpp cannot add."""

    bos: bool | None
    eos: bool | None
    notes: tuple[str, ...] = ()

    def settings(self) -> dict[str, bool]:
        """As keys below ``tokenizer.ggml.``."""
        found = {"add_bos_token": self.bos, "add_eos_token": self.eos}
        return {key: value for key, value in found.items() if value is not None}


def read_surroundings(tokenizer: Fields, settings: Fields, special: Mapping[str, int]) -> Surroundings:
    """From the post-processor, which is what acts; without one that says, from ``add_bos_token`` and ``add_eos_token``.

    Follows llama.cpp's converter (gguf-py, ``SpecialVocab``): a ``TemplateProcessing`` decides by its first and
    last piece, a ``ByteLevel`` alone adds nothing.
    """
    bos = eos = None
    notes: list[str] = []
    for processor in _flat(tokenizer.values.get("post_processor")):
        if processor.get("type") == "ByteLevel":
            bos, eos = bos or False, eos or False
        elif processor.get("type") == "TemplateProcessing":
            before, after = _around(processor)
            bos, eos = before == [special.get("bos")], after == [special.get("eos")]
            if (before and not bos) or (after and not eos):
                notes.append(
                    f"The tokenizer puts {shorten(_names(processor))} around a text; llama.cpp can only add the "
                    f"BOS token before and the EOS token after it, and will add {_added(bos, eos)}."
                )
    if bos is None and isinstance(settings.values.get("add_bos_token"), bool):
        bos = settings.values["add_bos_token"]
    if eos is None and isinstance(settings.values.get("add_eos_token"), bool):
        eos = settings.values["add_eos_token"]
    return Surroundings(bos, eos, tuple(notes))


def _flat(processor: Any) -> list[dict[str, Any]]:
    if not isinstance(processor, dict):
        return []
    inner = processor.get("processors")
    found = inner if isinstance(inner, list) else [processor]
    return [entry for entry in found if isinstance(entry, dict)]


def _around(processor: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """Token ids before and after the text in a single-sequence template."""
    before: list[Any] = []
    after: list[Any] = []
    side = before
    known = processor.get("special_tokens")
    for name in _names(processor):
        if name is None:
            side = after
            continue
        entry = known.get(name) if isinstance(known, dict) else None
        ids = entry.get("ids") if isinstance(entry, dict) else None
        side.extend(ids if isinstance(ids, list) else [None])
    return before, after


def _names(processor: dict[str, Any]) -> list[str | None]:
    """The special tokens of the template in order, None where the text goes."""
    pieces = processor.get("single")
    names: list[str | None] = []
    for piece in pieces if isinstance(pieces, list) else []:
        token = piece.get("SpecialToken") if isinstance(piece, dict) else None
        names.append(token["id"] if isinstance(token, dict) and isinstance(token.get("id"), str) else None)
    return names


def _added(bos: bool, eos: bool) -> str:
    return {(True, True): "both", (True, False): "BOS", (False, True): "EOS"}.get((bos, eos), "neither")
