"""Small model files with a vocabulary, for the laws of what goes with what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from localspec.gguf.header import GgufHeader, read_header
from tests.helpers.support import ARRAY, BOOL, I32, STRING, U32, gguf_array, gguf_bytes, gguf_pair, gguf_tensor

KEY = "tokenizer.ggml."
#: More tokens than the shortest list that is passed over when only the start of a file is read.
WORDS = [f"w{i}" for i in range(1500)]


def pair(key: str, value: Any) -> bytes:
    """A metadata pair of the type that the value has."""
    if isinstance(value, list):
        kind = STRING if value and isinstance(value[0], str | bytes) else I32
        return gguf_pair(key, ARRAY, gguf_array(kind, value))
    kind = {bool: BOOL, int: U32, str: STRING}[type(value)]
    return gguf_pair(key, kind, value)


def model_file(
    path: Path,
    weight: int = 1000,
    *,
    architecture: str = "qwen2",
    tokens: Sequence[str | bytes] = WORDS,
    keys: Mapping[str, Any] | None = None,
    late: Mapping[str, Any] | None = None,
    tensor: str = "blk.0.ffn_up.weight",
) -> GgufHeader:
    """A model whose one matrix has ``weight`` rows of 32 floats; ``keys`` go before the tokens, ``late`` behind them.

    Keys without a dot in front belong to the tokenizer or, with ``{}``, to the architecture.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    before = {"model": "gpt2", "pre": "qwen2", **(keys or {})}
    pairs = [pair("general.architecture", architecture)]
    pairs += [pair(_name(key, architecture), value) for key, value in before.items()]
    pairs += [pair(KEY + "tokens", list(tokens))] if tokens else []
    pairs += [pair(_name(key, architecture), value) for key, value in (late or {}).items()]
    path.write_bytes(gguf_bytes(pairs, [gguf_tensor(tensor, [32, weight])], 4 * 32 * weight))
    return read_header(path)


def trimmed_file(path: Path, ids: Sequence[int], weight: int = 100, **changed: Any) -> GgufHeader:
    """The file that ``localspec trim-draft`` makes of a model with the vocabulary ``WORDS``."""
    own = {".localspec.trim.ids": list(ids), ".localspec.trim.vocab_size": len(WORDS)}
    tokens = changed.pop("tokens", None) or [WORDS[i] for i in ids]
    return model_file(path, weight, tokens=tokens, late={**changed.pop("late", {}), **own}, **changed)


def _name(key: str, architecture: str) -> str:
    if key.startswith("."):
        return key[1:]
    return key.format(architecture) if "{}" in key else KEY + key
