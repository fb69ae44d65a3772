"""What the file of a trimmed drafter holds beside an ordinary model of fewer tokens, and reading it.

A trimmed drafter's head computes logits of the kept tokens only, and llama.cpp takes its whole vocabulary from there.
It can still read every token, fed as an embedding, and say any, one logit at a time: so behind the last tensor the file
has the input embeddings and (unless they are the same) the head of the whole vocabulary, row by row as they were in the
model it was made from. Of these only the rows that are used are ever read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localspec.errors import ModelFileError
from localspec.gguf.header import TRIM_IDS, TRIM_SIZE, GgufHeader
from localspec.gguf.types import BLOCKS, TYPE_NAMES

#: ggml types of the tables behind the tensors, in this order; without the second the first serves for both.
INPUT_TYPE, HEAD_TYPE = "localspec.trim.input_type", "localspec.trim.head_type"

#: Architectures whose graph reads nothing of a token but its embedding, and whose logits are a matrix times what
#: ``res->t_embd`` names; with whether llama.cpp multiplies a looked-up embedding by √n_embd and leaves a given one as
#: it is (read off ``llama.cpp/src/models``).
SCALES = {
    "llama": False,
    "qwen2": False,
    "qwen3": False,
    "qwen3moe": False,
    "smollm3": False,
    "phi3": False,
    "olmo2": False,
    "mistral3": False,
    "gemma2": False,
    "gemma3": True,
}


@dataclass(frozen=True)
class Table:
    """A matrix with a row for each token of a whole vocabulary, in a file, in ggml type ``kind``."""

    rows: NDArray[np.uint8] = field(repr=False)
    kind: str
    width: int

    def values(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """The rows of ``tokens``: shape (n, ``width``)."""
        from localspec.llama.quantize import dequantize_rows

        packed = np.ascontiguousarray(self.rows[np.asarray(tokens, np.int64)])
        if self.kind == "F32":
            return packed.view("<f4").astype(np.float32)
        if self.kind == "F16":
            return packed.view("<f2").astype(np.float32)
        if self.kind == "BF16":
            return (packed.view("<u2").astype(np.uint32) << 16).view(np.float32)
        return dequantize_rows(packed, self.kind, self.width)


@dataclass(frozen=True)
class Trim:
    """``ids``: the token of the whole vocabulary, of ``vocab_size`` tokens, that each kept one is; ascending."""

    ids: NDArray[np.int32]
    vocab_size: int
    inputs: Table
    head: Table
    scale: float = 1.0
    softcap: float = 0.0

    def embeddings(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """What the model takes for ``tokens`` of the whole vocabulary: shape (n, n_embd)."""
        values = self.inputs.values(tokens)
        return values if self.scale == 1.0 else values * np.float32(self.scale)


def read_trim(header: GgufHeader) -> Trim:
    """What a trimmed file says. Raises :class:`ModelFileError` where that cannot be."""
    size, ids = header.metadata.get(TRIM_SIZE), np.array(header.int32s(TRIM_IDS), np.int32)
    tokens = header.lengths.get("tokenizer.ggml.tokens", 0)
    if not isinstance(size, int) or len(ids) != tokens or len(ids) == 0:
        raise _broken(header, f"it maps {len(ids)} tokens and has {tokens}")
    if ids[0] < 0 or ids[-1] >= size or (np.diff(ids) <= 0).any():
        raise _broken(header, f"its map of tokens is not one into a vocabulary of {size}")
    if header.architecture not in SCALES:
        raise _broken(header, f"it is {header.architecture!r}")
    inputs, *others = _tables(header, size)
    scale = math.sqrt(inputs.width) if SCALES[header.architecture] else 1.0
    softcap = header.metadata.get(f"{header.architecture}.final_logit_softcapping")
    head = others[0] if others else inputs
    return Trim(ids, size, inputs, head, scale, softcap if isinstance(softcap, float) else 0.0)


def tensors_end(header: GgufHeader) -> int:
    """The offset in the file behind the last tensor, padded as tensors are."""
    alignment = header.metadata.get("general.alignment", 32)
    step = alignment if isinstance(alignment, int) else 32
    end = max((tensor.offset + (tensor.bytes or 0) for tensor in header.tensors), default=0)
    return header.data_start + -(-end // step) * step


def _tables(header: GgufHeader, size: int) -> list[Table]:
    """Those behind the tensors, which must fill the rest of the file."""
    width, at = header.number("embedding_length") or 0, tensors_end(header)
    data: NDArray[Any] = np.asarray(np.memmap(header.path, np.uint8, "r"))  # a plain view: memmaps are slow to index
    found = []
    for key in (INPUT_TYPE, HEAD_TYPE):
        if key == HEAD_TYPE and key not in header.metadata:
            break
        kind = header.metadata.get(key)
        if not isinstance(kind, int) or kind not in BLOCKS or width % BLOCKS[kind][0] or width == 0:
            raise _broken(header, f"{key} is {kind} for rows of {width}")
        row = width // BLOCKS[kind][0] * BLOCKS[kind][1]
        if at + size * row > len(data):
            raise _broken(header, f"the {size} rows of {row} bytes that should follow its tensors are not there")
        found.append(Table(data[at : at + size * row].reshape(size, row), TYPE_NAMES[kind], width))
        at += size * row
    return found


def _broken(header: GgufHeader, why: str) -> ModelFileError:
    return ModelFileError(
        f"{header.path} was changed since it was trimmed ({why}); make it again with `localspec trim-draft`."
    )
