"""A model's vocabulary in llama.cpp: text to ids and back, with the model or from its file alone."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from localspec.errors import BackendError, InputError, ModelFileError, UsageError
from localspec.gguf.header import GgufHeader
from localspec.llama.binding import bindings, lib
from localspec.protocols import MARKER, FimTokens


class LlamaVocabulary:
    """Text to ids and back, for one model."""

    def __init__(self, pointer: Any, is_open: Callable[[], bool]) -> None:
        """``pointer`` is llama.cpp's vocabulary, valid while ``is_open()``."""
        self._pointer, self._is_open = pointer, is_open
        self.n_tokens = int(lib.llama_vocab_n_tokens(self._vocab))
        self.bos = int(lib.llama_vocab_bos(self._vocab))
        self.eos = int(lib.llama_vocab_eos(self._vocab))
        self.type = int(lib.llama_vocab_type(self._vocab))
        self.add_bos = bool(lib.llama_vocab_get_add_bos(self._vocab))
        self.add_eos = bool(lib.llama_vocab_get_add_eos(self._vocab))
        self.fim = self._fim_tokens()
        self._pieces: dict[int, bytes] = {}
        self._ends: dict[int, bool] = {}
        self._controls: dict[int, str | None] = {}
        count = ctypes.c_int32(0)
        found = lib.llama_vocab_get_suppress_tokens(self._vocab, ctypes.byref(count))
        self.suppressed = np.array(found[: count.value] if count.value else [], np.int64)

    @property
    def _vocab(self) -> Any:
        """llama.cpp's vocabulary, which is freed with its model."""
        if not self._is_open():
            raise BackendError("the model was closed; load it again.")
        return self._pointer

    def _fim_tokens(self) -> FimTokens | None:
        names = ("pre", "suf", "mid", "rep", "sep")
        found = FimTokens(*(int(getattr(lib, f"llama_vocab_fim_{name}")(self._vocab)) for name in names))
        return None if min(found[:3]) < 0 else found

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool = True) -> list[int]:
        """Ids of ``text``. Raises :class:`InputError` where it is not valid Unicode."""
        try:
            data = text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(
                f"the text has a lone surrogate at character {error.start}; it must be valid Unicode. "
                "Decode the bytes as UTF-8 first."
            ) from error
        size = len(data) + 8
        for _ in range(2):
            ids = (lib.llama_token * size)()
            n = lib.llama_tokenize(self._vocab, data, len(data), ids, size, add_special, parse_special)
            if n >= 0:
                found = list(ids[:n])
                doubled = add_special and self.add_bos and found[:2] == [self.bos, self.bos]
                return found[1:] if doubled else found
            size = -n
        raise InputError(f"llama.cpp cannot tokenize a text of {len(data)} bytes; shorten it.")

    def piece(self, token: int) -> bytes:
        found = self._pieces.get(token)
        if found is None:
            found = self._pieces[token] = self._piece(token, special=False)
        return found

    def text(self, token: int) -> bytes:
        """The token's text, that of control tokens too."""
        return self._piece(token, special=True)

    def _piece(self, token: int, *, special: bool) -> bytes:
        if not 0 <= token < self.n_tokens:
            raise UsageError(f"token {token} is not in the vocabulary; ids go from 0 to {self.n_tokens - 1}.")
        buffer = ctypes.create_string_buffer(256)  # one for each call: other threads tokenize while one generates
        n = lib.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, special)
        if n < 0:
            buffer = ctypes.create_string_buffer(-n)
            n = lib.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, special)
        return buffer.raw[:n]

    def is_end(self, token: int) -> bool:
        found = self._ends.get(token)
        if found is None:
            found = self._ends[token] = bool(lib.llama_vocab_is_eog(self._vocab, token))
        return found

    def control_text(self, token: int) -> str | None:
        """Return the text of a control token, or of a marker such as ``<|tool_call>``; None for tokens of text."""
        if token in self._controls:
            return self._controls[token]
        attributes = lib.llama_vocab_get_attr(self._vocab, token)
        text = self.raw_text(token).decode("utf-8", errors="replace")
        is_control = attributes & (lib.LLAMA_TOKEN_ATTR_CONTROL | lib.LLAMA_TOKEN_ATTR_UNKNOWN)
        is_marker = attributes & lib.LLAMA_TOKEN_ATTR_USER_DEFINED and MARKER.fullmatch(text)
        found = self._controls[token] = text if text and (is_control or is_marker) else None
        return found

    def raw_text(self, token: int) -> bytes:
        """The entry in the file, for comparing vocabularies."""
        return bytes(lib.llama_vocab_get_text(self._vocab, token) or b"")


@contextmanager
def open_vocabulary(header: GgufHeader) -> Iterator[LlamaVocabulary]:
    """The vocabulary of a file whose weights are not loaded. Raises :class:`ModelFileError` if llama.cpp refuses it."""
    bindings()
    options = lib.llama_model_default_params()
    options.vocab_only = True
    model = lib.llama_model_load_from_file(os.fsencode(header.path), options)
    if not model:
        raise ModelFileError(f"llama.cpp cannot load the vocabulary of {header.path}; download or convert it again.")
    is_open = True
    try:
        yield LlamaVocabulary(lib.llama_model_get_vocab(model), lambda: is_open)
    finally:
        is_open = False
        lib.llama_model_free(model)
