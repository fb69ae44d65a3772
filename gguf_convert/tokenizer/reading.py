"""A checkpoint folder → ``Vocabulary``: finds the kind of tokenizer and puts the parts together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gguf_convert.fields import Fields, read_json_object, shorten
from gguf_convert.tokenizer import byte_level, spaced
from gguf_convert.tokenizer.chat_templates import read_templates
from gguf_convert.tokenizer.special import more_ends, optional_json, require, special_ids, special_names, suppressed
from gguf_convert.tokenizer.surroundings import Surroundings, read_surroundings
from gguf_convert.tokenizer.tokens import Tokens, read_merges, read_tokens
from gguf_convert.tokenizer.vocabulary import Vocabulary
from localspec.errors import ConvertError


def read_vocabulary(folder: Path, rows: int) -> Vocabulary:
    """Read the tokenizer of a checkpoint whose embedding has ``rows`` rows.

    Rows without a token get the placeholder ``[PADi]`` of type UNUSED. Raises ConvertError when the tokenizer
    is of no supported kind, names an id without a row, or would make llama.cpp abort (duplicate tokens).
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ConvertError(f"{folder} has no tokenizer.json: download it with the checkpoint.")
    tokenizer = read_json_object(path)
    config = optional_json(folder / "tokenizer_config.json")
    generation = optional_json(folder / "generation_config.json")
    names = special_names(config)
    model = tokenizer.object("model")
    over_bytes = _is_byte_level(tokenizer, model)
    settings = byte_level.settings(tokenizer) if over_bytes else spaced.settings(tokenizer, rows)
    tokens = read_tokens(tokenizer, names, rows)
    merges = read_merges(model, tokens.ids)
    texts = tokens.filled()
    special = special_ids(folder, config, tokens.ids, rows)
    around = read_surroundings(tokenizer, config, special) if over_bytes else Surroundings(True, None)
    require(special, *(("bos", "eos") if around.bos is not False else ("eos",)))
    ends, missed = more_ends(generation, special, texts)
    vocabulary = Vocabulary(
        settings={**settings, **_added(around)},
        tokens=texts,
        types=byte_level.types(tokens) if over_bytes else spaced.types(tokens, names),
        merges=tuple(f"{left} {right}" for left, right in merges),
        special={**special, **ends},
        templates=read_templates(folder, config),
        suppress=suppressed(generation, rows),
        notes=(*around.notes, *(() if over_bytes else spaced.notes(merges)), *_notes(tokens, missed)),
    )
    _check_unicode(vocabulary)
    return vocabulary


def _is_byte_level(tokenizer: Fields, model: Fields) -> bool:
    fallback = model.boolean("byte_fallback", False)
    if model.text("type", "") != "BPE":
        raise ConvertError(
            f"{tokenizer.where} is of type {shorten(model.text('type', ''))}, byte fallback {shorten(fallback)}; "
            'only BPE is supported: byte-level, or over "▁" with byte fallback.'
        )
    return not fallback


def _added(around: Surroundings) -> dict[str, Any]:
    # without the key llama.cpp falls back on what the pre-tokenizer's best-known model does
    return {"add_bos_token": False, **around.settings()}


def _notes(tokens: Tokens, missed_ends: int) -> list[str]:
    notes: list[str] = []
    if odd := [text for text, token in tokens.added.items() if not token.plain]:
        notes.append(
            f"{len(odd)} added tokens (such as {shorten(odd[0])}) take spaces beside them along or match only whole "
            "words, which llama.cpp does not do."
        )
    if missed_ends:
        notes.append(f"{missed_ends} end tokens of generation_config.json have no place in the file.")
    return notes


def _check_unicode(vocabulary: Vocabulary) -> None:
    """JSON can hold half a surrogate pair, which no UTF-8 file can."""
    templates = (vocabulary.templates.default or "", *vocabulary.templates.named.values())
    for text in (*vocabulary.tokens, *vocabulary.merges, *templates):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ConvertError(f"The tokenizer holds {shorten(text)}, which is not valid Unicode.") from error
