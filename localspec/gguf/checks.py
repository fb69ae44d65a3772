"""Checks for values in a well-formed header on which llama.cpp would abort the process.

Only cheap and certain ones; :mod:`localspec.probe.load_test` finds the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from localspec.gguf.types import FLOAT_NUMBERS

#: llama.cpp's LLAMA_MAX_LAYERS.
_MAX_LAYERS = 512
#: The id that files give for a token that they do not have.
_NO_TOKEN = 2**32 - 1


def metadata_error(architecture: str, metadata: Mapping[str, Any], lengths: Mapping[str, int]) -> str | None:
    """The reason why llama.cpp cannot take ``metadata`` (scalars) and ``lengths`` (of arrays), or None."""
    layers = metadata.get(f"{architecture}.block_count")
    if isinstance(layers, int) and not 1 <= layers <= _MAX_LAYERS:
        return f"it has {layers} layers; llama.cpp takes 1 to {_MAX_LAYERS}"
    size = lengths.get("tokenizer.ggml.tokens")
    for key, value in metadata.items():
        if size and key.startswith("tokenizer.ggml.") and key.endswith("_token_id") and isinstance(value, int):
            if not 0 <= value < size and value != _NO_TOKEN:
                return f"{key} is {value}, and the vocabulary has {size} tokens"
        elif ".rope.dimension_count" in key and isinstance(value, int):
            head = metadata.get(key.replace("rope.dimension_count", "attention.key_length"), value)
            if value < 2 or value % 2 or (isinstance(head, int) and value > head):
                return f"{key} is {value}; it must be even, above 0 and at most a head's {head}"
        elif key.endswith(("norm_epsilon", "norm_rms_epsilon")) and not (isinstance(value, float) and 0 <= value < 1):
            return f"{key} is {value}; it must be a number from 0 to 1"
    return None


def tensor_error(tensors: Iterable[tuple[str, int]]) -> str | None:
    """The reason why llama.cpp cannot take these tensors, each a name and a ggml type number, or None."""
    seen: set[str] = set()
    for name, kind in tensors:
        if name in seen:
            return f"tensor {name!r} is there twice"
        seen.add(name)
        if name.endswith("norm.weight") and kind not in FLOAT_NUMBERS:
            return f"tensor {name!r} has type {kind}; a norm has a float type"
    return None
