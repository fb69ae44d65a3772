"""Choice of the tokens that a trimmed drafter keeps: the indispensable ones, then the most frequent of a text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gguf_convert.trimming.texts import pieces, text_files
from localspec.errors import ConvertError, InputError
from localspec.gguf.header import GgufHeader
from localspec.llama.vocabulary import open_vocabulary
from localspec.types import Progress

TOKENS, TYPES = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"
Ids = NDArray[np.int64]

#: Types of tokens that are always kept: unknown, control, user-defined, byte.
_KEPT_TYPES = (2, 3, 4, 6)
#: Unused places of a vocabulary, which no model generates.
_PLACEHOLDER = re.compile(rb"<unused\d+>|\[PAD\d+\]|<\|reserved_special_token_\d+\|>|<\|?(extra|dummy)_?\d+\|?>")
#: Rows of the head in a group of llama.cpp's fast kernels. Other numbers of rows use slower kernels.
GROUP = 64


@dataclass(frozen=True)
class Ranking:
    """Number of occurrences of each token in a text of ``bytes`` bytes from ``files`` files."""

    counts: Ids
    files: int
    bytes: int

    def share(self, kept: Ids) -> float:
        """Return the share of the text's tokens that are in ``kept``; 0 without a text."""
        total = int(self.counts.sum())
        return float(self.counts[kept].sum()) / total if total else 0.0


def always_kept(header: GgufHeader) -> Ids:
    """Return the ids of control tokens, end tokens and tokens of single bytes, ascending."""
    texts, types = header.strings(TOKENS), header.int32s(TYPES)
    if not texts or len(types) != len(texts):
        raise ConvertError(f"{header.path.name} does not list its tokens and their types: give a language model.")
    kept = {i for i in np.flatnonzero(np.isin(types, _KEPT_TYPES)).tolist() if not _PLACEHOLDER.fullmatch(texts[i])}
    kept |= {i for i, text in enumerate(texts) if len(text.decode("utf-8", "replace")) == 1 and _stands_for_byte(text)}
    for key, value in header.metadata.items():
        if key.startswith("tokenizer.ggml.") and key.endswith("_token_id") and isinstance(value, int):
            kept |= {value} if 0 <= value < len(texts) else set()
    with open_vocabulary(header) as vocabulary:
        kept |= {token for token in range(vocabulary.n_tokens) if vocabulary.is_end(token)}
    return np.array(sorted(kept), np.int64)


def _stands_for_byte(text: bytes) -> bool:
    """Return True for a character of GPT-2's alphabet of bytes, which byte-level vocabularies use."""
    return ord(text.decode("utf-8")) < 0x144


def choose(header: GgufHeader, first: Ids, keep: int, ranking: Ranking | None) -> Ids:
    """Return ``keep`` ids, ascending, rounded up to whole groups: ``first``, then by count, then by id.

    Lower ids are roughly the more frequent tokens, because vocabularies are built by merging.
    """
    size = header.lengths[TOKENS]
    asked, keep = keep, -(-keep // GROUP) * GROUP
    if keep < len(first):
        raise ConvertError(
            f"{asked} tokens are too few: {len(first)} of {header.path.name} are always kept (special tokens, and one "
            f"for each byte); keep more, such as {min(size, max(4096, 2 * len(first)))}."
        )
    if keep >= size:
        raise ConvertError(
            f"{header.path.name} has {size} tokens, and {asked} are to be kept: there is nothing to trim."
        )
    counts = ranking.counts if ranking else np.zeros(size, np.int64)
    order = np.argsort(-counts, kind="stable")
    others = order[~np.isin(order, first)]
    return np.sort(np.concatenate((first, others[: keep - len(first)])))


def rank(header: GgufHeader, sources: Sequence[Path], limit: int, progress: Progress | None = None) -> Ranking:
    """Count the tokens of at most ``limit`` bytes of files and folders, with the model's own tokenizer.

    All text files below a folder are read, except links and hidden files. If there is more text than ``limit``, the
    same share of every file is read. Raises :class:`InputError` if there is no text.
    """
    files = [file for source in sources for file in text_files(source)]
    sizes = [file.stat().st_size for file in files]
    share = min(1.0, limit / max(1, sum(sizes)))
    total, done, read = int(sum(sizes) * share), 0, 0
    counts = np.zeros(header.lengths[TOKENS], np.int64)
    with open_vocabulary(header) as vocabulary:
        for file, size in zip(files, sizes, strict=True):
            for piece in pieces(file, int(size * share) + 1):
                ids = vocabulary.tokenize(piece, add_special=False, parse_special=False)
                counts += np.bincount(np.asarray(ids, np.int64), minlength=len(counts))
                read += len(piece.encode())
            done += int(size * share)
            if progress is not None:
                progress(min(done, total), total)
    if not counts.any():
        named = ", ".join(str(source) for source in sources)
        raise InputError(f"there is no text in {named}; give text like that which the model will write.")
    return Ranking(counts, len(files), read)
