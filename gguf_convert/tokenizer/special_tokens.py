"""Special tokens of a checkpoint: their ids, and the tokens that end a generation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gguf_convert.checkpoint.json_fields import Fields, read_json_object, shorten
from gguf_convert.tokenizer.gguf_tokens import GgufTokens
from gguf_convert.tokenizer.vocabulary import NORMAL
from localspec.errors import ConvertError

#: Name of a special token in transformers, and in GGUF keys.
_PARTS = {
    "bos": "bos",
    "eos": "eos",
    "unk": "unknown",
    "sep": "seperator",
    "pad": "padding",
    "mask": "mask",
}

#: Texts of tokens at which llama.cpp always ends a generation (llama_vocab::impl::load).
_KNOWN_ENDS = frozenset(
    (
        "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>",
        "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>",
        "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>", "<｜end▁of▁sentence｜>", "[e~[",
    )
)  # fmt: skip
#: With this token in the vocabulary llama.cpp treats "</s>" as an ordinary token.
_GEMMA4 = "<|tool_response>"


def optional_json(path: Path) -> Fields:
    """Read a JSON object; an empty one if there is no such file."""
    return read_json_object(path) if path.is_file() else Fields({}, path.name)


def _content(value: Any) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def special_names(settings: Fields) -> set[str]:
    """Return the tokens that ``tokenizer_config.json`` names as special."""
    values: list[Any] = [value for key, value in settings.values.items() if key.endswith("_token")]
    for key in ("extra_special_tokens", "additional_special_tokens", "model_specific_special_tokens"):
        group = settings.values.get(key)
        values.extend(group.values() if isinstance(group, dict) else group if isinstance(group, list) else ())
    return {text for text in map(_content, values) if text}


def special_ids(
    config: Fields, settings: Fields, ids: Mapping[str, int], rows: int, first: int | None
) -> dict[str, int]:
    """Return ids by part of a GGUF key, from the texts in ``tokenizer_config.json``, else the ids in ``config.json``.

    ``first`` is the token that the tokenizer puts before every text. It is the BOS token if none is named.
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
    """Raise ConvertError unless all ``names`` (``bos``, ``eos``) have an id; llama.cpp would use a default."""
    if missing := [name for name in names if name not in special]:
        raise ConvertError(
            f"Neither tokenizer_config.json nor config.json names the {' and '.join(missing)} token: "
            "add it to one of them."
        )


def more_ends(generation: Fields, special: Mapping[str, int], tokens: GgufTokens) -> tuple[dict[str, int], list[str]]:
    """Return end tokens of ``generation_config.json`` that llama.cpp lacks, as ``eot`` and ``eom``, and notes.

    The notes name further end tokens, for which a GGUF file has no key, and ordinary tokens at which llama.cpp ends.
    """
    listed = generation.values.get("eos_token_id")
    ends = [token for token in dict.fromkeys(listed if isinstance(listed, list) else [listed]) if _is_id(token, tokens)]
    unknown = [token for token in ends if token != special.get("eos") and tokens.texts[token] not in _KNOWN_ENDS]
    notes: list[str] = []
    if left := unknown[2:]:
        names = shorten([tokens.texts[token] for token in left])
        notes.append(f"A file can name three end tokens; llama.cpp will not end at {names}, as transformers does.")
    wrong = [
        text
        for token, (text, kind) in enumerate(zip(tokens.texts, tokens.types, strict=True))
        if text in _KNOWN_ENDS and kind == NORMAL and token not in ends and token != special.get("eos")
    ]
    if wrong and _GEMMA4 not in tokens.texts:
        notes.append(
            f"{shorten(wrong[0])} is a token like any other for this model, but llama.cpp treats it as an end token, "
            "also in prompts."
        )
    return dict(zip(("eot", "eom"), unknown, strict=False)), notes


def _is_id(token: object, tokens: GgufTokens) -> bool:
    return type(token) is int and 0 <= token < len(tokens.texts)


def suppressed(generation: Fields, rows: int) -> tuple[int, ...]:
    """Return ``suppress_tokens`` of ``generation_config.json``."""
    ids = generation.values.get("suppress_tokens") or []
    if not isinstance(ids, list) or not all(type(index) is int and 0 <= index < rows for index in ids):
        raise generation.fail("suppress_tokens", f"a list of token ids below {rows}")
    return tuple(ids)
