"""Read the tokenizer of a checkpoint folder: find its kind and combine the parts."""

from __future__ import annotations

from pathlib import Path

from gguf_convert.checkpoint.json_fields import Fields, read_json_object, shorten
from gguf_convert.tokenizer import byte_level, gemma_bpe, post_processor, sentencepiece
from gguf_convert.tokenizer.chat_templates import read_templates
from gguf_convert.tokenizer.gguf_tokens import GgufTokens
from gguf_convert.tokenizer.special_tokens import (
    more_ends,
    optional_json,
    require,
    special_ids,
    special_names,
    suppressed,
)
from gguf_convert.tokenizer.tokens import Tokens, read_merges, read_tokens
from gguf_convert.tokenizer.vocabulary import GgufVocabulary
from localspec.errors import ConvertError


def read_vocabulary(folder: Path, rows: int) -> GgufVocabulary:
    """Read the tokenizer of a checkpoint whose embedding has ``rows`` rows.

    Rows without a token get the placeholder ``[PADi]`` of type UNUSED. Raises ConvertError if the tokenizer is of no
    supported kind, has an id without a row, or would make llama.cpp abort (duplicate tokens).
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ConvertError(f"{folder} has no tokenizer.json: download it with the checkpoint.")
    tokenizer, config = read_json_object(path), read_json_object(folder / "config.json")
    settings = optional_json(folder / "tokenizer_config.json")
    generation = optional_json(folder / "generation_config.json")
    tokens = read_tokens(tokenizer, special_names(settings), rows)
    listed = _gguf_tokens(tokenizer, config, tokens)
    around = post_processor.read_post_processor(tokenizer)
    special = special_ids(config, settings, tokens.ids, rows, around.first)
    keys = post_processor.bos_eos_keys(around, settings, special)
    notes = post_processor.unsupported_notes(around, keys, listed.texts)
    if listed.settings["model"] == "gemma4":
        keys = {"add_bos_token": True}  # llama.cpp always adds it
    require(special, *(("bos", "eos") if keys["add_bos_token"] else ("eos",)))
    ends, end_notes = more_ends(generation, special, listed)
    vocabulary = GgufVocabulary(
        settings={**listed.settings, **keys},
        tokens=listed.texts,
        types=listed.types,
        merges=listed.merges,
        special={**special, **ends},
        templates=read_templates(folder, settings),
        suppress=suppressed(generation, rows),
        notes=(*listed.notes, *notes, *end_notes, *_notes(tokens)),
    )
    _check_unicode(vocabulary)
    return vocabulary


def _gguf_tokens(tokenizer: Fields, config: Fields, tokens: Tokens) -> GgufTokens:
    model = tokenizer.object("model")
    fallback = model.boolean("byte_fallback", False)
    if model.text("type", "") != "BPE":
        raise ConvertError(
            f"{tokenizer.where} is of type {shorten(model.text('type', ''))}, byte fallback {shorten(fallback)}; "
            'only BPE is supported: byte-level, or over "▁" with byte fallback.'
        )
    merges = read_merges(model, tokens.ids)
    if not fallback:
        return byte_level.gguf_tokens(tokenizer, tokens, merges)
    gemma_bpe.check(tokenizer)
    found = None if _is_gemma4(config) else sentencepiece.gguf_tokens(tokens, merges)
    return found or gemma_bpe.gguf_tokens(tokens, merges)


def _is_gemma4(config: Fields) -> bool:
    names = config.values.get("architectures")
    return isinstance(names, list) and any(isinstance(name, str) and name.startswith("Gemma4") for name in names)


def _notes(tokens: Tokens) -> list[str]:
    odd = [text for text, token in tokens.added.items() if not token.plain]
    if not odd:
        return []
    return [
        f"{len(odd)} added tokens (such as {shorten(odd[0])}) include spaces beside them or match only whole "
        "words, which llama.cpp does not do."
    ]


def _check_unicode(vocabulary: GgufVocabulary) -> None:
    """Raise ConvertError for half a surrogate pair, which JSON can hold and UTF-8 cannot."""
    templates = (vocabulary.templates.default or "", *vocabulary.templates.named.values())
    for text in (*vocabulary.tokens, *vocabulary.merges, *templates):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ConvertError(f"The tokenizer holds {shorten(text)}, which is not valid Unicode.") from error
