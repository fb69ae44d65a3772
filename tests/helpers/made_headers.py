"""Headers of models that do not exist, for laws about numbers that no small file has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from localspec.gguf.header import GgufHeader, TensorInfo

F32, Q4_0, Q8_0, Q4_K = 0, 2, 8, 12


def made(
    tensors: dict[str, tuple[tuple[int, ...], int]] | None = None,
    tokens: int = 0,
    file: str = "made.gguf",
    **numbers: Any,
) -> GgufHeader:
    """The header of a made-up model of four layers, eight heads of 64, two of which are kept."""
    given = {"block_count": 4, "embedding_length": 512, "feed_forward_length": 1024} | numbers
    heads: dict[str, Any] = {"attention.head_count": 8, "attention.head_count_kv": 2}
    values = {f"made.{key.replace('__', '.')}": value for key, value in (heads | given).items()}
    infos, at = [], 0
    for name, (shape, kind) in (tensors or {}).items():
        infos.append(TensorInfo(name, shape, kind, at))
        at += infos[-1].bytes or 0
    metadata = {"general.architecture": "made", **values}
    return GgufHeader(Path(file), metadata, {"tokenizer.ggml.tokens": tokens}, tuple(infos), 0, 1000)


def dense(layers: int = 4, width: int = 512, tokens: int = 4096, name: str = "made.gguf", **numbers: Any) -> GgufHeader:
    """A whole model in Q4_0, of which every layer weighs the same."""
    tensors: dict[str, tuple[tuple[int, ...], int]] = {"token_embd.weight": ((width, tokens), Q4_0)}
    for layer in range(layers):
        for matrix in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
            tensors[f"blk.{layer}.{matrix}.weight"] = ((width, width), Q4_0)
    tensors["output.weight"] = ((width, tokens), Q4_0)
    return made(tensors, tokens, name, block_count=layers, embedding_length=width, **numbers)
