"""Compare the vocabularies of target and drafter from their files: each token id must stand for one text.

The rule is llama.cpp's, ``common_speculative_are_compatible`` (``common/speculative.cpp``): tokenizers of one type, the
same tokens at the beginning and end of a text, sizes that differ by padding at most, and the same text for each id
except the first few. Settings that a file does not contain have llama.cpp's defaults (``src/llama-vocab.cpp``).
"""

from __future__ import annotations

from collections.abc import Sequence

from localspec.gguf.header import TRIM_IDS, TRIM_SIZE, GgufHeader, is_trimmed

TOKENS = "tokenizer.ggml.tokens"
#: Tokens by which the sizes may differ: padding to a multiple of 64 or 128. llama.cpp's value.
MAX_SIZE_DIFFERENCE = 128
#: First token that is compared; those before it are special tokens. llama.cpp's value.
FIRST_COMPARED = 5

_KEY = "tokenizer.ggml."
#: Tokenizers that add a first token by default, by ``tokenizer.ggml.model``.
_ADD_BOS = ("llama", "bert")
#: Tokenizers that add a first token by default, by ``tokenizer.ggml.pre``.
_ADD_BOS_PRE = (
    "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano",
    "tekken", "chameleon",
)  # fmt: skip
#: Tokenizers that add a last token by default.
_ADD_EOS = ("t5",)
#: Default ids of the first token.
_BOS = {"llama": 1, "bert": 101, "gpt2": 11, "plamo2": 1}
#: Default ids of the last token.
_EOS = {"llama": 2, "gpt2": 11, "t5": 1, "plamo2": 2}
#: llama.cpp's id of a token that does not exist.
_NO_TOKEN = -1
#: Bytes before the first element of an array: its type and its length.
_ARRAY_HEAD = 12


class _Vocabulary:
    """A file's vocabulary. A trimmed drafter has some tokens of a whole one: ``ids`` are their ids there."""

    def __init__(self, header: GgufHeader) -> None:
        self._header = header
        self.type = _text(header, "model")
        #: Number of tokens of the whole vocabulary.
        self.size = vocabulary_size(header)
        count = header.lengths.get(TOKENS, 0)
        self.ids: Sequence[int] = header.int32s(TRIM_IDS) if is_trimmed(header) else range(count)
        #: Tokens that begin and end every text, None if none is added.
        self.ends = (
            self._whole_id("bos", _BOS) if _adds_bos(header) else None,
            self._whole_id("eos", _EOS) if _adds_eos(header) else None,
        )

    def _whole_id(self, name: str, defaults: dict[str, int]) -> int:
        found = self._header.metadata.get(f"{_KEY}{name}_token_id", defaults.get(self.type))
        if not isinstance(found, int):
            return _NO_TOKEN
        return self.ids[found] if 0 <= found < len(self.ids) else found

    @property
    def map_is_valid(self) -> bool:
        """True if each token stands for one of the whole vocabulary; a trimmed file may have been changed."""
        count = self._header.lengths.get(TOKENS, 0)
        return len(self.ids) == count and min(self.ids, default=0) >= 0 and max(self.ids, default=0) < self.size

    def texts(self) -> list[bytes]:
        return self._header.strings(TOKENS)

    def bytes(self) -> bytes:
        """All texts as they are in the file, each after its length."""
        span = self._header.spans.get(TOKENS)
        if span is None:
            return b""
        with self._header.path.open("rb") as stream:
            stream.seek(span.start + _ARRAY_HEAD)
            return stream.read(max(0, span.end - span.start - _ARRAY_HEAD))


def vocabulary_size(header: GgufHeader) -> int:
    """Number of tokens, of a trimmed model that of the whole vocabulary; 0 if the file has none."""
    size = header.metadata.get(TRIM_SIZE) if is_trimmed(header) else None
    return size if isinstance(size, int) else header.lengths.get(TOKENS, 0)


def vocabulary_mismatch(target: GgufHeader, drafter: GgufHeader) -> str | None:
    """Reason why the drafter's ids are not the target's, None if they are.

    Reads the tokens only if all else agrees. Raises as :func:`localspec.gguf.header.read_header` does.
    """
    ours, theirs = _Vocabulary(target), _Vocabulary(drafter)
    reason = _settings_mismatch(ours, theirs)
    if reason is None and (is_trimmed(drafter) or not _one_begins_with_other(ours.bytes(), theirs.bytes())):
        reason = _text_mismatch(ours, theirs)  # mostly avoided: it takes a hundred times as long
    return reason


def _settings_mismatch(ours: _Vocabulary, theirs: _Vocabulary) -> str | None:
    if ours.type != theirs.type:
        return f"their tokenizers are of different types ({ours.type} and {theirs.type})"
    if ours.ends != theirs.ends:
        return "they begin or end texts with different tokens"
    if abs(ours.size - theirs.size) > MAX_SIZE_DIFFERENCE or not ours.size or not theirs.size:
        return f"their vocabularies have {ours.size} and {theirs.size} tokens"
    if not theirs.map_is_valid:
        return "it was changed since it was trimmed: its tokens are not mapped to those of a whole vocabulary"
    return None


def _text_mismatch(ours: _Vocabulary, theirs: _Vocabulary) -> str | None:
    texts = ours.texts()
    for token, text in zip(theirs.ids, theirs.texts(), strict=False):
        if FIRST_COMPARED <= token < len(texts) and texts[token] != text:
            return f"token {token} is {texts[token]!r} in one and {text!r} in the other"
    return None


def may_share_vocabulary(target: GgufHeader, start: GgufHeader) -> bool:
    """False if a drafter of which only the ``start`` was read certainly has another vocabulary."""
    if TOKENS not in start.lengths or _KEY + "model" not in start.metadata:
        return True
    if _text(target, "model") != _text(start, "model"):
        return False
    size, theirs = vocabulary_size(target), start.lengths[TOKENS]
    may_be_trimmed = theirs < size and _text(target, "pre") == _text(start, "pre")  # the end of the file tells
    return may_be_trimmed or abs(size - theirs) <= MAX_SIZE_DIFFERENCE


def _one_begins_with_other(a: bytes, b: bytes) -> bool:
    n = min(len(a), len(b))
    return a[:n] == b[:n]


def _text(header: GgufHeader, key: str) -> str:
    return str(header.metadata.get(_KEY + key, ""))


def _adds_bos(header: GgufHeader) -> bool:
    if "gemma4" in (_text(header, "model"), _text(header, "pre")):
        return True  # llama.cpp ignores the file's setting
    default = _text(header, "model") in _ADD_BOS or _text(header, "pre") in _ADD_BOS_PRE
    return bool(header.metadata.get(_KEY + "add_bos_token", default))


def _adds_eos(header: GgufHeader) -> bool:
    return bool(header.metadata.get(_KEY + "add_eos_token", _text(header, "model") in _ADD_EOS))
