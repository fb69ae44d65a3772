"""Whether a token's id means the same text to two models, from their files: llama.cpp's rule for a separate drafter.

The rule is that of ``common_speculative_are_compatible`` (``common/speculative.cpp``): the same kind of tokenizer, the
same tokens at the beginning and end of a text, sizes that differ by padding at most, the same text for every id but the
first few. What a file does not say is what llama.cpp takes for it (``src/llama-vocab.cpp``).
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from localspec.errors import ModelFileError
from localspec.gguf.header import TRIM_IDS, TRIM_SIZE, GgufHeader, is_trimmed
from localspec.gguf.types import ARRAY, STRING

TOKENS = "tokenizer.ggml.tokens"
#: llama.cpp's: sizes may differ by padding, the first few tokens by special ones.
MAX_SIZE_DIFFERENCE, FIRST_COMPARED = 128, 5

_KEY = "tokenizer.ggml."
#: Tokenizers that llama.cpp adds a first token for, or a last one, where the file does not say; and its first tokens.
_ADD_BOS = ("llama", "bert")
_ADD_BOS_PRE = (
    "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano",
    "tekken", "chameleon",
)  # fmt: skip
_ADD_EOS = ("t5",)
_BOS, _EOS = {"llama": 1, "bert": 101, "gpt2": 11, "plamo2": 1}, {"llama": 2, "gpt2": 11, "t5": 1, "plamo2": 2}
_ARRAY_HEAD = struct.Struct("<IQ")
_LENGTH = struct.Struct("<Q")


def vocabulary_size(header: GgufHeader) -> int:
    """Tokens, of a trimmed model those of the vocabulary that it was made from; 0 where the file has none."""
    size = header.metadata.get(TRIM_SIZE) if is_trimmed(header) else None
    return size if isinstance(size, int) else header.lengths.get(TOKENS, 0)


def vocabulary_mismatch(target: GgufHeader, drafter: GgufHeader) -> str | None:
    """Why ids of ``drafter`` are not those of ``target``, or None. Reads the tokens only if all else agrees.

    Raises as :func:`localspec.gguf.header.read_header` does.
    """
    ids = _kept(drafter) if is_trimmed(drafter) else None
    return _settings_mismatch(target, drafter, ids) or _token_mismatch(target, drafter, ids)


def may_share_vocabulary(target: GgufHeader, start: GgufHeader) -> bool:
    """Whether that is still possible for a drafter of which only the start was read."""
    if TOKENS not in start.lengths or _KEY + "model" not in start.metadata:
        return True
    if _text(target, "model") != _text(start, "model"):
        return False
    size, theirs = vocabulary_size(target), start.lengths[TOKENS]
    trimmed = theirs < size and _text(target, "pre") == _text(start, "pre")  # that it is trimmed is said later
    return trimmed or abs(size - theirs) <= MAX_SIZE_DIFFERENCE


def _settings_mismatch(target: GgufHeader, drafter: GgufHeader, ids: Sequence[int] | None) -> str | None:
    models = _text(target, "model"), _text(drafter, "model")
    if models[0] != models[1]:
        return f"their tokenizers are of different types ({models[0]} and {models[1]})"
    for add, default, what in ((_adds_bos, _BOS, "bos"), (_adds_eos, _EOS, "eos")):
        own = _special(drafter, what, default)
        whole = ids[own] if ids is not None and own is not None and 0 <= own < len(ids) else own
        if add(target) != add(drafter) or (add(target) and _special(target, what, default) != whole):
            return "they begin or end texts with different tokens"
    sizes = vocabulary_size(target), vocabulary_size(drafter)
    if abs(sizes[0] - sizes[1]) > MAX_SIZE_DIFFERENCE or not all(sizes):
        return f"their vocabularies have {sizes[0]} and {sizes[1]} tokens"
    return None


def _text(header: GgufHeader, key: str) -> str:
    return str(header.metadata.get(_KEY + key, ""))


def _adds_bos(header: GgufHeader) -> bool:
    if "gemma4" in (_text(header, "model"), _text(header, "pre")):
        return True  # whatever the file says
    default = _text(header, "model") in _ADD_BOS or _text(header, "pre") in _ADD_BOS_PRE
    return bool(header.metadata.get(_KEY + "add_bos_token", default))


def _adds_eos(header: GgufHeader) -> bool:
    return bool(header.metadata.get(_KEY + "add_eos_token", _text(header, "model") in _ADD_EOS))


def _special(header: GgufHeader, what: str, defaults: dict[str, int]) -> int | None:
    value = header.metadata.get(f"{_KEY}{what}_token_id", defaults.get(_text(header, "model")))
    return value if isinstance(value, int) else None


def _kept(header: GgufHeader) -> Sequence[int]:
    """The whole vocabulary's ids of a trimmed model's tokens; empty where they cannot be."""
    ids = header.int32s(TRIM_IDS)
    return ids if len(ids) == header.lengths.get(TOKENS) else []


def _token_mismatch(target: GgufHeader, drafter: GgufHeader, ids: Sequence[int] | None) -> str | None:
    with _Tokens.of(target) as ours, _Tokens.of(drafter) as theirs:
        if ids is None:
            count = min(ours.count, theirs.count)
            if ours.same(theirs, count):
                return None
            ids = range(count)
        elif len(ids) != theirs.count or min(ids, default=0) < 0 or max(ids, default=0) >= vocabulary_size(drafter):
            return "it was changed since it was trimmed: its tokens are not mapped to those of a whole vocabulary"
        texts = ours.texts()
        for token, text in zip(ids, theirs.texts(), strict=False):
            if FIRST_COMPARED <= token < len(texts) and texts[token] != text:
                return f"token {token} is {texts[token]!r} in one and {text!r} in the other"
    return None


class _Tokens:
    """The texts of a vocabulary in a mapped file, one after another, each behind its length."""

    def __init__(self, data: mmap.mmap, start: int, count: int, path: Path) -> None:
        self._data, self._start, self.count, self._path = data, start, count, path

    @staticmethod
    @contextmanager
    def of(header: GgufHeader) -> Iterator[_Tokens]:
        path, span = header.path, header.spans.get(TOKENS)
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if span is None or span.kind != ARRAY or span.start + _ARRAY_HEAD.size > len(data):
                yield _Tokens(data, 0, 0, path)
                return
            kind, count = _ARRAY_HEAD.unpack_from(data, span.start)
            yield _Tokens(data, span.start + _ARRAY_HEAD.size, count if kind == STRING else 0, path)

    def same(self, other: _Tokens, count: int) -> bool:
        """Whether the first ``count`` texts are those of ``other``, but for those that are not compared.

        Their bytes are compared at once, which takes a hundredth of reading them; lengths are read on one side only.
        """
        first = min(FIRST_COMPARED, count)
        mine, theirs = self._skip(self._start, first), other._skip(other._start, first)
        size = self._skip(mine, count - first) - mine
        return self._data[mine : mine + size] == other._data[theirs : theirs + size]

    def texts(self) -> list[bytes]:
        found, at = [], self._start
        for _ in range(self.count):
            end = self._skip(at, 1)
            found.append(self._data[at + 8 : end])
            at = end
        return found

    def _skip(self, at: int, count: int) -> int:
        data, end, unpack = self._data, len(self._data), _LENGTH.unpack_from
        for _ in range(count):
            if at + 8 > end:
                at = end + 1
                break
            at += 8 + unpack(data, at)[0]
        if at > end:
            raise ModelFileError(f"{self._path} is damaged: its tokens run past its end. Download or convert it again.")
        return at
