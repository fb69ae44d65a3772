"""What the file of a trimmed drafter holds beside an ordinary model of fewer tokens, and reading it.

A trimmed drafter's head computes logits of the kept tokens only, and llama.cpp takes its whole vocabulary from there.
It can still be fed every token: by its embedding. So the file ends, behind the last tensor, with the input embeddings
of the whole vocabulary, row by row as they were in the model it was made from. Only rows that are fed are ever read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localspec.errors import ModelFileError
from localspec.gguf_header import BLOCKS, TYPE_NAMES, GgufHeader, read_spans

#: new id → old id, ascending (int32 array); the tokens of the model before; the ggml type of the embeddings behind.
IDS, VOCAB_SIZE, INPUT_TYPE = "localspec.trim.ids", "localspec.trim.vocab_size", "localspec.trim.input_type"
_UINT32, _INT32, _ARRAY, _ARRAY_HEAD = 4, 5, 9, 12

#: Architectures whose graph reads nothing of a token but its embedding, with what an embedding is multiplied by that
#: llama.cpp multiplies a looked-up one by and a given one not: False for nothing, True for √n_embd (read off
#: ``llama.cpp/src/models``).
SCALES = {
    "llama": False,
    "qwen2": False,
    "qwen3": False,
    "qwen3moe": False,
    "smollm3": False,
    "phi3": False,
    "olmo2": False,
    "mistral3": False,
    "gemma": False,
    "gemma2": False,
    "gemma3": True,
}


@dataclass(frozen=True)
class InputTable:
    """The input embeddings of a whole vocabulary, in a file."""

    rows: NDArray[np.uint8] = field(repr=False)
    kind: str
    width: int
    scale: float = 1.0

    def embeddings(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """What a model takes for ``tokens``: shape (n, ``width``)."""
        from localspec.backends.llama_quantize import dequantize_rows

        packed = np.ascontiguousarray(self.rows[np.asarray(tokens, np.int64)])
        if self.kind == "F32":
            values = packed.view("<f4").astype(np.float32)
        elif self.kind == "F16":
            values = packed.view("<f2").astype(np.float32)
        elif self.kind == "BF16":
            values = (packed.view("<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            values = dequantize_rows(packed, self.kind, self.width)
        return values if self.scale == 1.0 else values * np.float32(self.scale)


@dataclass(frozen=True)
class Trim:
    """``ids``: the token of the whole vocabulary, of ``vocab_size`` tokens, that each kept one is; ascending."""

    ids: NDArray[np.int32]
    vocab_size: int
    inputs: InputTable


def is_trimmed(header: GgufHeader) -> bool:
    """Whether ``localspec trim-draft`` made the file."""
    return IDS in header.lengths


def read_trim(header: GgufHeader) -> Trim:
    """What a trimmed file says. Raises :class:`ModelFileError` where that cannot be."""
    size, ids = header.metadata.get(VOCAB_SIZE), read_integers(header.path, IDS)
    tokens = header.lengths.get("tokenizer.ggml.tokens", 0)
    if not isinstance(size, int) or len(ids) != tokens or len(ids) == 0:
        raise _broken(header, f"it maps {len(ids)} tokens and has {tokens}")
    if ids[0] < 0 or ids[-1] >= size or (np.diff(ids) <= 0).any():
        raise _broken(header, f"its map of tokens is not one into a vocabulary of {size}")
    return Trim(ids, size, _inputs(header, size))


def read_integers(path: Path, key: str, kind: int = _INT32) -> NDArray[np.int32]:
    """The array at ``key`` of numbers of 32 bits, of GGUF type ``kind``, as integers; empty where there is none."""
    span = read_spans(path).get(key)
    if span is None or span.kind != _ARRAY:
        return np.zeros(0, np.int32)
    data = np.memmap(path, np.uint8, "r")[span.start : span.end].tobytes()
    if int.from_bytes(data[:4], "little") not in (kind, _UINT32):
        return np.zeros(0, np.int32)
    return np.frombuffer(data, "<i4", offset=_ARRAY_HEAD).astype(np.int32)


def input_scale(architecture: str, width: int) -> float:
    """What a given embedding is multiplied by, to be what llama.cpp would look up."""
    return math.sqrt(width) if SCALES[architecture] else 1.0


def tensors_end(header: GgufHeader) -> int:
    """The offset in the file behind the last tensor, padded as tensors are."""
    step = header.metadata.get("general.alignment", 32)
    end = max((t.offset + (t.bytes or 0) for t in header.tensors), default=0)
    return header.data_start + -(-end // (step if isinstance(step, int) else 32)) * (
        step if isinstance(step, int) else 32
    )


def _inputs(header: GgufHeader, size: int) -> InputTable:
    kind, width = header.metadata.get(INPUT_TYPE), header.number("embedding_length") or 0
    if header.architecture not in SCALES or not isinstance(kind, int) or kind not in BLOCKS:
        raise _broken(header, f"its inputs are of type {kind} for the architecture {header.architecture!r}")
    per_block, block = BLOCKS[kind]
    row = width // per_block * block
    data: NDArray[Any] = np.memmap(header.path, np.uint8, "r")
    start = tensors_end(header)
    if width % per_block or row == 0 or len(data) - start != size * row:
        raise _broken(
            header,
            f"{size} input embeddings of {row} bytes should follow its tensors, and {len(data) - start} bytes do",
        )
    table = data[start:].reshape(size, row)
    return InputTable(table, TYPE_NAMES[kind], width, input_scale(header.architecture, width))


def _broken(header: GgufHeader, why: str) -> ModelFileError:
    return ModelFileError(
        f"{header.path} was changed since it was trimmed ({why}); make it again with `localspec trim-draft`."
    )
