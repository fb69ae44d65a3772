"""The part of a GGUF vocabulary that depends on the kind of tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class GgufTokens:
    """Texts and types by id, merges as ``"left right"``, and keys below ``tokenizer.ggml.`` (``settings``).

    ``notes`` are sentences about differences between llama.cpp and the ``tokenizers`` library.
    """

    settings: Mapping[str, Any]
    texts: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
