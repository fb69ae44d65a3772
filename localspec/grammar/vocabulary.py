"""A model's vocabulary for llguidance: the bytes of each token, and the model's own tokenizer for forced text.

Control tokens, end tokens and markers (``<think>``, ``<|tool_call>``) have no text here, so a structured answer
contains one only where its grammar names the token. Construction takes about 0.5 s at 152k tokens, once for each
engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from localspec.errors import BackendError, InputError
from localspec.grammar.compiling import import_llguidance, on_deep_stack, parser_limits
from localspec.grammar.matcher import Matcher
from localspec.protocols import MARKER, Mask, Vocabulary

if TYPE_CHECKING:
    from llguidance import LLMatcher

_BRACKETS = frozenset(b"]})")
_CLOSERS = frozenset(b'"]})')
_CONSTANTS = (b"null", b"true", b"false")
_OPENERS = (b"{", b"[", b"(", b"<", b",", b":", b"{}", b"[]", b" {}", b" []", b' ""', b' "')
#: Punctuation of formats (mail addresses, dates, URLs), which is tried before other punctuation.
_COMMON_SIGNS = b"@.-:/ \n"
#: Kinds of tokens inside a string, those that lead to an ending first.
_KINDS_IN_STRING = ("markers", "quotes", "letters", "digits", "signs", "brackets", "constants", "comma", "openers")
#: Kinds of tokens outside a string, in the same order.
_KINDS_OUTSIDE = ("brackets", "comma", "quotes", "markers", "constants", "digits", "letters", "signs", "openers")
#: Tokens of a kind that are tried, where it is more than one.
_TRIED = {"quotes": 2, "brackets": 2, "digits": 2, "signs": 40, "openers": 9}
#: Bytes of a token that is sorted into a kind. Longer ones lead away from an ending.
_MAX_BYTES = 12
#: Legal tokens of any kind that are tried last, lowest ids first.
_TRIED_LAST = 4
#: Compiled grammars in the cache.
_CACHE_SIZE = 8


class GrammarVocabulary:
    """Factory of matchers over ``vocabulary``, with the tokens that are likely to end an answer."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        llguidance = import_llguidance()
        self.n_tokens = vocabulary.n_tokens
        self._vocabulary = vocabulary
        pieces = [vocabulary.piece(token) for token in range(self.n_tokens)]
        self.ends = tuple(token for token in range(self.n_tokens) if vocabulary.is_end(token))
        if not self.ends:
            raise BackendError("this model has no end token, so that a structured answer could not end.")
        for token, piece in enumerate(pieces):
            if b"\0" in piece or _is_marker(piece):  # llama.cpp's grammars exclude NUL, too
                pieces[token] = b""
        for token in self.ends:
            pieces[token] = b""
        self.pieces: Sequence[bytes] = pieces
        self._longest = max(map(len, pieces))
        self._ids = {piece: token for token, piece in reversed(list(enumerate(pieces))) if piece}
        self.tokenizer = llguidance.LLTokenizer(
            llguidance.TokenizerWrapper(_Tokenizer(self)), n_vocab=self.n_tokens, eos_token=list(self.ends)
        )
        self._llguidance = llguidance
        self._compiled: dict[str, LLMatcher] = {}
        self._groups = _groups(pieces)
        silent = [token for token, piece in enumerate(pieces) if not piece and token not in self.ends]
        self._groups["markers"] = np.array(silent, np.int64), 2
        self.closers = tuple(self._ids[text] for text in (b'"', b"}", b"]", b")", b'"}', b'"]') if text in self._ids)
        self._bytes = np.array([token for token, piece in enumerate(pieces) if len(piece) == 1], np.int64)
        self._letters = np.array([self._ids[char] for char in (b"a", b"z", b"A") if char in self._ids], np.int64)

    def matcher(self, grammar: str) -> Matcher:
        """A new matcher at the start of ``grammar``. Raises :class:`InputError` for a grammar that is too large."""
        found = self._compiled.get(grammar)
        if found is None:
            made = partial(self._llguidance.LLMatcher, self.tokenizer, grammar, log_level=0, limits=parser_limits())
            found = on_deep_stack(made)
            check(found)
            while len(self._compiled) >= _CACHE_SIZE:
                del self._compiled[next(iter(self._compiled))]
            self._compiled[grammar] = found
        return Matcher(found.deep_copy())

    def mask(self, bits: bytes) -> Mask:
        """llguidance's bits as flags (n_tokens,)."""
        found = np.unpackbits(np.frombuffer(bits, np.uint8), count=self.n_tokens, bitorder="little")
        return found.view(np.bool_)

    def promising(self, mask: Mask, *, every_byte: bool = False) -> Iterator[int]:
        """Legal tokens that may lead to an ending, the most promising first, a few of each kind.

        With ``every_byte`` those of one byte follow: a pattern may ask for a certain one.
        """
        in_string = bool(mask[self._letters].any())  # where brackets and commas are text
        for name in _KINDS_IN_STRING if in_string else _KINDS_OUTSIDE:
            ids, most = self._groups[name]
            legal = ids[mask[ids]]
            yield from (int(token) for token in legal[:most])
        yield from (int(token) for token in np.flatnonzero(mask)[:_TRIED_LAST])
        if every_byte:
            yield from (int(token) for token in self._bytes[mask[self._bytes]])

    def tokenize(self, data: bytes) -> list[int]:
        """Tokens of ``data`` by the model's own tokenizer, or by the longest match if their text differs."""
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            return self._greedy(data)
        found = self._vocabulary.tokenize(text, add_special=False, parse_special=False)
        if b"".join(self.pieces[token] for token in found) == data:
            return found
        return self._greedy(data)  # a tokenizer that puts a space before each text

    def _greedy(self, data: bytes) -> list[int]:
        found, at = [], 0
        while at < len(data):
            size = next((n for n in range(self._longest, 0, -1) if data[at : at + n] in self._ids), 0)
            if not size:
                return []
            found.append(self._ids[data[at : at + size]])
            at += size
        return found


def _is_marker(piece: bytes) -> bool:
    return piece[:1] == b"<" and MARKER.fullmatch(piece.decode("utf-8", errors="replace")) is not None


class _Tokenizer:
    """Adapter with the attributes that llguidance reads of a tokenizer."""

    bos_token_id = None
    special_token_ids: Sequence[int] = ()

    def __init__(self, vocabulary: GrammarVocabulary) -> None:
        self._vocabulary = vocabulary
        self.eos_token_id = vocabulary.ends[0]
        # To llguidance a token whose first byte is 0xFF has no text.
        self.tokens = [piece or b"\xff<%d>" % token for token, piece in enumerate(vocabulary.pieces)]

    def __call__(self, data: bytes | str) -> list[int]:
        return self._vocabulary.tokenize(data if isinstance(data, bytes) else data.encode())


def check(matcher: Matcher | LLMatcher) -> None:
    """Raise :class:`InputError` if the matcher has failed: no text may follow, or a mask took too much work.

    Raises KeyboardInterrupt if one struck while llguidance called the tokenizer, which it reports as its own error.
    """
    if matcher.is_error():
        if "KeyboardInterrupt" in matcher.get_error():
            raise KeyboardInterrupt
        reason = " ".join(matcher.get_error().partition("<state>")[0].split())[:200]
        if "NoExtension" in reason:
            raise InputError("the grammar comes to a point where no text may follow; check that its rules can end.")
        raise InputError(f"the grammar is too complex to follow ({reason}); simplify it.")


def _groups(pieces: Sequence[bytes]) -> dict[str, tuple[NDArray[np.int64], int]]:
    """Ids of each kind, longest text first, and the number of them to try."""
    found: dict[str, list[int]] = {name: [] for name in _KINDS_IN_STRING}
    for token, piece in enumerate(pieces):
        if piece and len(piece) <= _MAX_BYTES and (kind := _kind(piece)):
            found[kind].append(token)
    for name, ids in found.items():
        ids.sort(key=lambda token: (-len(pieces[token]), token))
        if name == "signs":
            ids.sort(key=lambda token: _COMMON_SIGNS.find(pieces[token]) % 256)
    found["digits"].sort(key=lambda token: (len(pieces[token]), token))
    return {name: (np.array(ids, np.int64), _TRIED.get(name, 1)) for name, ids in found.items()}


def _kind(piece: bytes) -> str | None:
    if set(piece) <= _CLOSERS:  # a quote after a bracket closes a string that began before the bracket
        return "quotes" if piece.startswith(b'"') else "brackets" if set(piece) <= _BRACKETS else None
    if piece in _OPENERS:
        return "comma" if piece == b"," else "openers"
    if piece in _CONSTANTS:
        return "constants"
    if piece.isdigit():
        return "digits"
    if piece.isalnum():
        return "letters"
    return "signs" if len(piece) == 1 and piece[0] < 128 else None
