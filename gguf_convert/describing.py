"""What a checkpoint would become, without converting it: the header of the GGUF file, and its vocabulary."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf_convert.arch import map_checkpoint
from gguf_convert.checkpoint import open_checkpoint
from gguf_convert.tokenizer import Vocabulary, read_vocabulary
from localspec.gguf.header import GgufHeader, TensorInfo

_F32 = 0
_MAX_DIFFERENCE, _FIRST_COMPARED = 128, 5


@dataclass(frozen=True)
class Description:
    """``header`` is as that of the file in F32, but for offsets; its path is the folder."""

    header: GgufHeader
    vocabulary: Vocabulary


def describe(checkpoint_dir: str | os.PathLike[str]) -> Description:
    """Read configuration, tokenizer and tensor shapes. Raises ConvertError for what cannot be converted."""
    checkpoint = open_checkpoint(Path(checkpoint_dir))
    model = map_checkpoint(checkpoint)
    vocabulary = read_vocabulary(checkpoint.path, model.vocab_rows)
    values = {f"{model.architecture}.{key}": _frozen(value) for key, value in model.metadata.items()}
    tensors = tuple(TensorInfo(t.name, tuple(reversed(t.shape)), _F32, 0) for t in model.tensors)
    header = GgufHeader(checkpoint.path, {"general.architecture": model.architecture, **values}, {}, tensors)
    return Description(header, vocabulary)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def vocabulary_mismatch(target: Vocabulary, drafter: Vocabulary) -> str | None:
    """Why a draft model of this vocabulary cannot draft for the target, or None; the rule is llama.cpp's."""
    kind, other = target.settings.get("model"), drafter.settings.get("model")
    if kind != other:
        return f"their tokenizers are of different kinds ({kind} and {other})"
    for key in ("add_bos_token", "add_eos_token"):
        if target.settings.get(key, False) != drafter.settings.get(key, False):
            return f"{key} is {target.settings.get(key)} in one and {drafter.settings.get(key)} in the other"
    if target.settings.get("add_bos_token") and target.special.get("bos") != drafter.special.get("bos"):
        return f"their BOS tokens differ ({target.special.get('bos')} and {drafter.special.get('bos')})"
    a, b = len(target.tokens), len(drafter.tokens)
    if abs(a - b) > _MAX_DIFFERENCE:
        return f"their vocabularies have {a} and {b} tokens"
    for token in range(_FIRST_COMPARED, min(a, b)):
        if target.tokens[token] != drafter.tokens[token]:
            return f"token {token} is {target.tokens[token]!r} in one and {drafter.tokens[token]!r} in the other"
    return None
