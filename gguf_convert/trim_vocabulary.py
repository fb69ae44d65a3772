"""Which tokens a trimmed drafter keeps: those it cannot do without, then the most frequent of a text."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localspec.errors import ConvertError, InputError
from localspec.gguf.header import GgufHeader
from localspec.llama.vocabulary import open_vocabulary

TOKENS, TYPES = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"
Ids = NDArray[np.int64]

#: GGUF's token types that are kept whatever the text: unknown, control, user-defined, byte.
_KEPT_TYPES = (2, 3, 4, 6)
#: Places in a vocabulary that stand for nothing yet: no model says them.
_PLACEHOLDER = re.compile(rb"<unused\d+>|\[PAD\d+\]|<\|reserved_special_token_\d+\|>|<\|?(extra|dummy)_?\d+\|?>")
#: llama.cpp's kernels take head rows in groups; a head that is no whole number of them is computed by slower ones.
GROUP = 64
#: Bytes that are read of one file and tokenised at once, and that are looked at for whether a file is text.
_PIECE, _LOOK = 1 << 16, 1 << 12


@dataclass(frozen=True)
class Ranking:
    """How often each token of a vocabulary occurs in a text of ``bytes`` bytes from ``files`` files."""

    counts: Ids
    files: int
    bytes: int

    def share(self, kept: Ids) -> float:
        """The part of the text's tokens that are among ``kept``; 0 of no text."""
        total = int(self.counts.sum())
        return float(self.counts[kept].sum()) / total if total else 0.0


def always_kept(header: GgufHeader) -> Ids:
    """Tokens that control a text, end it or stand for a byte, ascending."""
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
    """Whether a token of one character is in GPT-2's alphabet of bytes, which byte-level vocabularies use."""
    return ord(text.decode("utf-8")) < 0x144


def choose(header: GgufHeader, first: Ids, keep: int, ranking: Ranking | None) -> Ids:
    """``keep`` ids, ascending, rounded up to whole groups: ``first``, then by count, then by id.

    Vocabularies are made by merging, so that lower ids are about the more frequent ones.
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


def rank(
    header: GgufHeader, sources: Sequence[Path], limit: int, progress: Callable[[int, int], None] | None = None
) -> Ranking:
    """Count the tokens of at most ``limit`` bytes of the files and folders ``sources``, by the model's own tokenizer.

    In a folder all text files below it are read; links and hidden files are not. Of more text than ``limit`` each file
    gives its part. Raises :class:`InputError` where there is no text.
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


def text_files(source: Path) -> Iterator[Path]:
    """``source`` itself, or the text files of a folder in order."""
    try:
        if not source.is_dir():
            if source.exists() and not (source.is_file() and _is_text(source)):
                raise InputError(f"{source} is not a text file; give text like that which the model will write.")
            source.stat()
            yield source
            return
        for path in sorted(source.rglob("*")):
            hidden = any(part.startswith(".") for part in path.relative_to(source).parts)
            if not hidden and not path.is_symlink() and path.is_file() and os.access(path, os.R_OK) and _is_text(path):
                yield path
    except OSError as error:
        raise InputError(
            f"{source} cannot be read: {error.strerror or error}. Give a text file or a folder."
        ) from error


def _is_text(path: Path) -> bool:
    with path.open("rb") as stream:
        start = stream.read(_LOOK)
    if b"\0" in start:
        return False
    try:
        start[: len(start) - 4 if len(start) == _LOOK else None].decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start >= len(start) - 8 > 0  # a character cut in two
    return True


def pieces(path: Path, limit: int) -> Iterator[str]:
    """The first ``limit`` bytes of a file as texts that end with a line where they can."""
    left: Any = b""
    try:
        with path.open("rb") as stream:
            while limit > 0 and (block := stream.read(min(_PIECE, limit))):
                limit -= len(block)
                whole, newline, rest = (left + block).rpartition(b"\n")
                if not newline and len(rest) < 16 * _PIECE:
                    left = rest
                    continue
                yield (whole + newline or rest).decode("utf-8", errors="replace")
                left = rest if newline else b""
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}. Give a text file or a folder.") from error
    if left:
        yield left.decode("utf-8", errors="replace")


def folders_exist(sources: Iterable[Path]) -> None:
    """InputError for the first of ``sources`` that is not there."""
    for source in sources:
        if not source.exists():
            raise InputError(f"{source} is not there; give a text file or a folder of them with --from.")
