"""``tokenizer.json`` → the vocabulary part of a GGUF file, without the ``tokenizers`` library.

Covers the SPM-style BPE of Gemma 4: byte-fallback tokens, spaces as "▁", merges. llama.cpp then tokenises by
itself; the id of every token stays what it is in the checkpoint.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf_convert.fields import Fields, read_json_object, shorten
from localspec.errors import ConvertError

NORMAL, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 3, 4, 5, 6  # llama_token_type

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
_SPECIAL = {
    "bos": "bos",
    "eos": "eos",
    "unk": "unknown",
    "sep": "seperator",
    "pad": "padding",
    "mask": "mask",
}
_BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id with their scores and types, merges as ``"left right"``, and what surrounds them.

    ``special`` maps a part of a GGUF key (``bos``, ``unknown``, …) to a token id; ``suppress`` lists ids that are
    never to be sampled; ``notes`` says where llama.cpp will tokenise differently from transformers.
    """

    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    special: dict[str, int]
    chat_template: str | None
    suppress: tuple[int, ...]
    notes: tuple[str, ...] = ()

    @property
    def scores(self) -> list[float]:
        return [_SCORE] * len(self.tokens)

    def metadata(self) -> dict[str, Any]:
        """The ``tokenizer.*`` keys of the GGUF file."""
        keys: dict[str, Any] = {
            "tokenizer.ggml.model": "gemma4",
            "tokenizer.ggml.tokens": list(self.tokens),
            "tokenizer.ggml.scores": self.scores,
            "tokenizer.ggml.token_type": list(self.types),
            "tokenizer.ggml.merges": list(self.merges),
            "tokenizer.ggml.add_space_prefix": False,
            "tokenizer.ggml.add_bos_token": True,
        }
        for part, token_id in self.special.items():
            keys[f"tokenizer.ggml.{part}_token_id"] = token_id
        if self.suppress:
            keys["tokenizer.ggml.suppress_tokens"] = list(self.suppress)
        if self.chat_template:
            keys["tokenizer.chat_template"] = self.chat_template
        return keys


def read_vocabulary(folder: Path, rows: int) -> Vocabulary:
    """Read the tokenizer of a checkpoint whose embedding has ``rows`` rows.

    Rows without a token get the placeholder ``[PADi]`` of type UNUSED. Raises ConvertError when the tokenizer
    is not of Gemma 4's kind, names an id without a row, or would make llama.cpp abort (duplicate tokens).
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ConvertError(f"{folder} has no tokenizer.json: download it with the checkpoint.")
    tokenizer = read_json_object(path)
    settings = _optional_json(folder / "tokenizer_config.json")
    model = tokenizer.object("model")
    _check_kind(tokenizer, model)
    added = _added_tokens(tokenizer)
    names = _special_names(settings)
    tokens = _tokens_by_id(model, added, rows)
    ids = {text: index for index, text in enumerate(tokens) if text is not None}
    merges = _merges(model, ids)
    vocabulary = Vocabulary(
        tokens=tuple(text if text is not None else f"[PAD{index}]" for index, text in enumerate(tokens)),
        types=tuple(_token_type(text, added, names) for text in tokens),
        merges=tuple(f"{left} {right}" for left, right in merges),
        special=_special_ids(folder, settings, ids),
        chat_template=_chat_template(folder, settings),
        suppress=_suppressed(folder, rows),
        notes=_notes(merges),
    )
    _check_unicode(vocabulary)
    return vocabulary


def _optional_json(path: Path) -> Fields:
    return read_json_object(path) if path.is_file() else Fields({}, path.name)


def _check_kind(tokenizer: Fields, model: Fields) -> None:
    if model.text("type", "") != "BPE" or not model.boolean("byte_fallback", False):
        raise ConvertError(
            f"{tokenizer.where} is of type {shorten(model.text('type', ''))}, byte fallback "
            f"{shorten(model.boolean('byte_fallback', False))}; only Gemma 4's BPE with byte fallback is supported."
        )
    normalizer = tokenizer.object("normalizer")
    steps = normalizer.values.get("normalizers") if normalizer.text("type", "") == "Sequence" else [normalizer.values]
    if steps != [{"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]:
        raise ConvertError(
            f"{tokenizer.where} has the normalizer {shorten(steps)}; "
            'llama.cpp\'s Gemma 4 tokeniser only replaces spaces by "▁".'
        )


def _added_tokens(tokenizer: Fields) -> dict[str, tuple[int, bool]]:
    entries = tokenizer.values.get("added_tokens") or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise tokenizer.fail("added_tokens", "a list of objects")
    added: dict[str, tuple[int, bool]] = {}
    for entry in entries:
        fields = Fields(entry, f'{tokenizer.where}, "added_tokens"')
        added[fields.text("content")] = (fields.integer("id", low=0), fields.boolean("special", False))
    return added


def _tokens_by_id(model: Fields, added: dict[str, tuple[int, bool]], rows: int) -> list[str | None]:
    vocabulary = dict(model.object("vocab").values)
    for text, (index, _) in added.items():
        if vocabulary.setdefault(text, index) != index:
            ids = f"{shorten(vocabulary[text])} and {index}"
            raise ConvertError(f"tokenizer.json gives token {shorten(text)} the ids {ids}.")
    tokens: list[str | None] = [None] * rows
    for text, index in vocabulary.items():
        if type(index) is not int or not 0 <= index < rows:
            raise ConvertError(
                f"tokenizer.json gives token {shorten(text)} the id {shorten(index)}, "
                f"but the embedding has {rows} rows: tokenizer and weights do not belong together."
            )
        if not text:
            raise ConvertError(f"tokenizer.json has an empty token, id {index}: every token needs a text.")
        if (other := tokens[index]) is not None:
            raise ConvertError(f"tokenizer.json gives id {index} to {shorten(other)} and {shorten(text)}.")
        tokens[index] = text
    clash = next((i for i, text in enumerate(tokens) if text is None and f"[PAD{i}]" in vocabulary), None)
    if clash is not None:
        raise ConvertError(f"tokenizer.json has a token [PAD{clash}] but none with id {clash}: ids must be complete.")
    return tokens


def _token_type(text: str | None, added: dict[str, tuple[int, bool]], names: set[str]) -> int:
    if text is None:
        return UNUSED
    if text in VISIBLE:
        return USER_DEFINED
    if _BYTE_TOKEN.fullmatch(text):
        return BYTE
    if text in names or (text in added and added[text][1]):
        return CONTROL
    # An added token that is not special is matched before the merges apply. llama.cpp does so for
    # USER_DEFINED tokens, but before spaces become "▁", so tokens with "▁" must be left to the merges.
    return USER_DEFINED if text in added and "▁" not in text else NORMAL


def _merges(model: Fields, ids: dict[str, int]) -> list[tuple[str, str]]:
    merges = model.values.get("merges")
    if not isinstance(merges, list) or not merges:
        raise model.fail("merges", "a list that is not empty")
    result: list[tuple[str, str]] = []
    for merge in merges:
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if (
            not isinstance(pair, list)
            or len(pair) != 2
            or not all(isinstance(p, str) and p and " " not in p for p in pair)
        ):
            raise ConvertError(f"tokenizer.json has the merge {shorten(merge)}: expected two tokens without spaces.")
        left, right = pair
        if unknown := next((text for text in (left, right, left + right) if text not in ids), None):
            raise ConvertError(
                f"tokenizer.json has the merge {shorten(merge)} but no token {shorten(unknown)}: it is damaged."
            )
        result.append((left, right))
    return result


def _notes(merges: list[tuple[str, str]]) -> tuple[str, ...]:
    mixed = [left + right for left, right in merges if "\n" in left + right and (left + right).strip("\n")]
    if not mixed:
        return ()
    return (
        f"{len(mixed)} merges join line breaks with other text (such as {shorten(mixed[0])}), which llama.cpp "
        "never does: it will tokenise such text differently from transformers.",
    )


def _check_unicode(vocabulary: Vocabulary) -> None:
    """JSON can hold half a surrogate pair, which no UTF-8 file can."""
    for text in (*vocabulary.tokens, *vocabulary.merges, vocabulary.chat_template or ""):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ConvertError(f"The tokenizer holds {shorten(text)}, which is not valid Unicode.") from error


def _content(value: Any) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _special_names(settings: Fields) -> set[str]:
    """Tokens that ``tokenizer_config.json`` calls special, whatever ``tokenizer.json`` says of them."""
    values: list[Any] = [value for key, value in settings.values.items() if key.endswith("_token")]
    for key in ("extra_special_tokens", "additional_special_tokens", "model_specific_special_tokens"):
        group = settings.values.get(key)
        values.extend(group.values() if isinstance(group, dict) else group if isinstance(group, list) else ())
    return {text for text in map(_content, values) if text}


def _special_ids(folder: Path, settings: Fields, ids: dict[str, int]) -> dict[str, int]:
    config = read_json_object(folder / "config.json")
    text = config.object("text_config", required=False)
    special: dict[str, int] = {}
    for name, part in _SPECIAL.items():
        token = _content(settings.values.get(f"{name}_token"))
        candidates = (
            ids.get(token) if token else None,
            config.values.get(f"{name}_token_id"),
            text.values.get(f"{name}_token_id"),
        )
        found = next((value for value in candidates if type(value) is int and 0 <= value < len(ids)), None)
        if found is not None:
            special[part] = found
    if missing := [name for name in ("bos", "eos") if name not in special]:
        raise ConvertError(
            f"Neither tokenizer_config.json nor config.json names the {' and '.join(missing)} token: "
            "add it to one of them."
        )
    return special


def _chat_template(folder: Path, settings: Fields) -> str | None:
    """The default template: of ``tokenizer_config.json``, ``chat_template.jinja`` or ``chat_template.json``."""
    template = settings.values.get("chat_template")
    if isinstance(template, list):
        named = [item for item in template if isinstance(item, dict) and item.get("name") == "default"]
        template = named[0].get("template") if named else None
    if template is None and (folder / "chat_template.jinja").is_file():
        try:
            template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConvertError(f"Cannot read {folder / 'chat_template.jinja'} as UTF-8 text.") from error
    if template is None and (folder / "chat_template.json").is_file():
        template = read_json_object(folder / "chat_template.json").values.get("chat_template")
    if template is not None and not isinstance(template, str):
        raise ConvertError(f"The chat template is {shorten(template)}: expected text.")
    return template


def _suppressed(folder: Path, rows: int) -> tuple[int, ...]:
    generation = _optional_json(folder / "generation_config.json")
    ids = generation.values.get("suppress_tokens") or []
    if not isinstance(ids, list) or not all(type(index) is int and 0 <= index < rows for index in ids):
        raise generation.fail("suppress_tokens", f"a list of token ids below {rows}")
    return tuple(ids)
