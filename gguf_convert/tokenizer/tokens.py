"""The parts of ``tokenizer.json`` that all kinds share: tokens by id, added tokens, merges.

Duplicates, gaps and merges of unknown tokens are refused: llama.cpp would abort or tokenise wrongly.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

from gguf_convert.checkpoint.json_fields import Fields, shorten
from localspec.errors import ConvertError

Merge = tuple[str, str]

#: Added tokens that some checkpoints forget to flag as special (llama.cpp, does_token_look_special).
_SPECIAL_LOOK = frozenset(("<pad>", "<mask>", "<2mass>", "[@BOS@]"))
_SPECIAL_BRACKETS = (("<|", "|>"), ("<｜", "｜>"), ("<unused", ">"))


def looks_special(text: str) -> bool:
    """Return True if llama.cpp's converter treats an added token as special because of its text."""
    return text in _SPECIAL_LOOK or any(text.startswith(a) and text.endswith(z) for a, z in _SPECIAL_BRACKETS)


@dataclass(frozen=True)
class AddedToken:
    """A token that is matched before the merges apply.

    ``special``: flagged, or named by ``tokenizer_config.json``. ``plain`` is False if the token includes spaces beside
    it or matches whole words only, which llama.cpp does not support.
    """

    id: int
    special: bool
    plain: bool = True


@dataclass(frozen=True)
class Tokens:
    """Texts by id (None for a row of the embedding without a token), and ids by text.

    ``special_names``: tokens that ``tokenizer_config.json`` names as special, added or not.
    """

    texts: tuple[str | None, ...]
    ids: Mapping[str, int]
    added: Mapping[str, AddedToken]
    special_names: Set[str] = frozenset()

    def is_special(self, text: str) -> bool:
        """Return True if flagged in ``tokenizer.json`` or named in ``tokenizer_config.json``."""
        return text in self.special_names or (text in self.added and self.added[text].special)

    def filled(self) -> tuple[str, ...]:
        """Return the texts, with the placeholder ``[PADi]`` for rows without a token."""
        return tuple(f"[PAD{index}]" if text is None else text for index, text in enumerate(self.texts))


def read_tokens(tokenizer: Fields, special_names: Set[str], rows: int) -> Tokens:
    """Read the tokens of a model with ``rows`` rows of embedding.

    Raises ConvertError for an id without a row or with two tokens.
    """
    added = _added_tokens(tokenizer, special_names)
    vocabulary = dict(tokenizer.object("model").object("vocab").values)
    for text, token in added.items():
        if vocabulary.setdefault(text, token.id) != token.id:
            ids = f"{shorten(vocabulary[text])} and {token.id}"
            raise ConvertError(f"tokenizer.json gives token {shorten(text)} the ids {ids}.")
    texts: list[str | None] = [None] * rows
    for text, index in vocabulary.items():
        if type(index) is not int or not 0 <= index < rows:
            raise ConvertError(
                f"tokenizer.json gives token {shorten(text)} the id {shorten(index)}, "
                f"but the embedding has {rows} rows: tokenizer and weights do not belong together."
            )
        if not text:
            raise ConvertError(f"tokenizer.json has an empty token, id {index}: every token needs a text.")
        if (other := texts[index]) is not None:
            raise ConvertError(f"tokenizer.json gives id {index} to {shorten(other)} and {shorten(text)}.")
        texts[index] = text
    clash = next((i for i, text in enumerate(texts) if text is None and f"[PAD{i}]" in vocabulary), None)
    if clash is not None:
        raise ConvertError(f"tokenizer.json has a token [PAD{clash}] but none with id {clash}: ids must be complete.")
    return Tokens(tuple(texts), vocabulary, added, special_names)


def _added_tokens(tokenizer: Fields, special_names: Set[str]) -> dict[str, AddedToken]:
    entries = tokenizer.values.get("added_tokens") or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise tokenizer.fail("added_tokens", "a list of objects")
    added: dict[str, AddedToken] = {}
    for entry in entries:
        fields = Fields(entry, f'{tokenizer.where}, "added_tokens"')
        text = fields.text("content")
        flags = [fields.boolean(flag, False) for flag in ("lstrip", "rstrip", "single_word")]
        special = fields.boolean("special", False) or text in special_names
        added[text] = AddedToken(fields.integer("id", low=0), special, not any(flags))
    return added


def read_merges(model: Fields, ids: Mapping[str, int]) -> list[Merge]:
    """Read the merges in order, stored as pairs or as ``"left right"``; each joins two tokens to a third."""
    merges = model.values.get("merges")
    if not isinstance(merges, list) or not merges:
        raise model.fail("merges", "a list that is not empty")
    result: list[Merge] = []
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
