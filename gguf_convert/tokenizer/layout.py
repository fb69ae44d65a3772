"""What depends on the kind of a tokenizer; the kinds are the other modules that make one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Layout:
    """``settings``: keys below ``tokenizer.ggml.``; ``texts`` and ``types`` by id; ``merges`` as ``"left right"``.

    ``notes`` say where llama.cpp will tokenise differently from the ``tokenizers`` library.
    """

    settings: Mapping[str, Any]
    texts: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
