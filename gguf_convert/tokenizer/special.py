"""Special tokens of a checkpoint: which there are, their ids, where a generation ends."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gguf_convert.fields import Fields, read_json_object, shorten
from gguf_convert.tokenizer.layout import Layout
from gguf_convert.tokenizer.vocabulary import NORMAL
from localspec.errors import ConvertError

_PARTS = {
    "bos": "bos",
    "eos": "eos",
    "unk": "unknown",
    "sep": "seperator",
    "pad": "padding",
    "mask": "mask",
}

# llama.cpp ends a generation at these by their text, whatever the file says (llama_vocab::impl::load).
_KNOWN_ENDS = frozenset(
    (
        "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>",
        "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>",
        "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>", "<｜end▁of▁sentence｜>", "[e~[",
    )
)  # fmt: skip
_GEMMA4 = "<|tool_response>"  # beside it llama.cpp takes "</s>" for an ordinary token


def optional_json(path: Path) -> Fields:
    """A JSON object that need not be there."""
    return read_json_object(path) if path.is_file() else Fields({}, path.name)


def _content(value: Any) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def special_names(settings: Fields) -> set[str]:
    """Tokens that ``tokenizer_config.json`` calls special, whatever ``tokenizer.json`` says of them."""
    values: list[Any] = [value for key, value in settings.values.items() if key.endswith("_token")]
    for key in ("extra_special_tokens", "additional_special_tokens", "model_specific_special_tokens"):
        group = settings.values.get(key)
        values.extend(group.values() if isinstance(group, dict) else group if isinstance(group, list) else ())
    return {text for text in map(_content, values) if text}


def special_ids(
    config: Fields, settings: Fields, ids: Mapping[str, int], rows: int, first: int | None
) -> dict[str, int]:
    """Ids by part of a GGUF key: of ``tokenizer_config.json`` by text, else of ``config.json`` by number.

    ``first`` is a token that the tokenizer puts before every text: without a BOS token by name, that is it.
    """
    text = config.object("text_config", required=False)
    special: dict[str, int] = {}
    for name, part in _PARTS.items():
        token = _content(settings.values.get(f"{name}_token"))
        candidates = (
            ids.get(token) if token else None,
            first if name == "bos" else None,
            config.values.get(f"{name}_token_id"),
            text.values.get(f"{name}_token_id"),
        )
        found = next((value for value in candidates if type(value) is int and 0 <= value < rows), None)
        if found is not None:
            special[part] = found
    return special


def require(special: Mapping[str, int], *names: str) -> None:
    """ConvertError unless all of ``names`` (``bos``, ``eos``) have an id: llama.cpp would make one up."""
    if missing := [name for name in names if name not in special]:
        raise ConvertError(
            f"Neither tokenizer_config.json nor config.json names the {' and '.join(missing)} token: "
            "add it to one of them."
        )


def more_ends(generation: Fields, special: Mapping[str, int], layout: Layout) -> tuple[dict[str, int], list[str]]:
    """End tokens of ``generation_config.json`` that llama.cpp would not know, as ``eot`` and ``eom``, and notes.

    The notes name further ends, for which a GGUF file has no key, and ordinary tokens that llama.cpp ends at.
    """
    listed = generation.values.get("eos_token_id")
    ends = [token for token in dict.fromkeys(listed if isinstance(listed, list) else [listed]) if _is_id(token, layout)]
    unknown = [token for token in ends if token != special.get("eos") and layout.texts[token] not in _KNOWN_ENDS]
    notes: list[str] = []
    if left := unknown[2:]:
        names = shorten([layout.texts[token] for token in left])
        notes.append(f"A file can name three end tokens; llama.cpp will not end at {names}, as transformers does.")
    wrong = [
        text
        for token, (text, kind) in enumerate(zip(layout.texts, layout.types, strict=True))
        if text in _KNOWN_ENDS and kind == NORMAL and token not in ends and token != special.get("eos")
    ]
    if wrong and _GEMMA4 not in layout.texts:
        notes.append(
            f"{shorten(wrong[0])} is a token like any other for this model; llama.cpp takes it for an end token, in "
            "prompts too."
        )
    return dict(zip(("eot", "eom"), unknown, strict=False)), notes


def _is_id(token: object, layout: Layout) -> bool:
    return type(token) is int and 0 <= token < len(layout.texts)


def suppressed(generation: Fields, rows: int) -> tuple[int, ...]:
    """``suppress_tokens`` of ``generation_config.json``."""
    ids = generation.values.get("suppress_tokens") or []
    if not isinstance(ids, list) or not all(type(index) is int and 0 <= index < rows for index in ids):
        raise generation.fail("suppress_tokens", f"a list of token ids below {rows}")
    return tuple(ids)
