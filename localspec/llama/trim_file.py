"""The file of a trimmed drafter: the parts that an ordinary model of fewer tokens does not have.

A trimmed drafter's head computes logits of the kept tokens only, and llama.cpp takes its whole vocabulary from there.
Any other token can be read as an embedding, and its logit computed by itself. For that the file has, behind the last
tensor, the input embeddings of the whole vocabulary and (unless they are the same matrix) its head, row by row as in
the original model. Only the rows that are used are ever read.
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
from localspec.llama.quantized_rows import dequantize_rows

#: Keys of the ggml types of the matrices behind the tensors. Without the second key there is one matrix for both uses.
INPUT_TYPE, HEAD_TYPE = "localspec.trim.input_type", "localspec.trim.head_type"

#: Architectures whose graph reads nothing of a token but its embedding, and whose logits are a matrix times
#: ``res->t_embd``. The value: True if llama.cpp multiplies an embedding that it looks up by √n_embd, and leaves one
#: that is given to it (from ``llama.cpp/src/models``).
SCALED_EMBEDDINGS = {
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
    """A matrix in a file with a row for each token of a vocabulary, in the ggml type named ``kind``."""

    rows: NDArray[np.uint8] = field(repr=False)
    kind: str
    width: int

    def values(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """The rows of ``tokens``: shape (n, ``width``)."""
        return dequantize_rows(self.rows[np.asarray(tokens, np.int64)], self.kind, self.width)


@dataclass(frozen=True)
class Trim:
    """The added parts of a trimmed file.

    ``ids``: the id in the whole vocabulary, of ``vocab_size`` tokens, of each kept token; ascending.
    """

    ids: NDArray[np.int32]
    vocab_size: int
    inputs: Table
    head: Table
    scale: float = 1.0
    softcap: float = 0.0

    def embeddings(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """The model's inputs for ``tokens`` of the whole vocabulary: shape (n, n_embd)."""
        values = self.inputs.values(tokens)
        return values if self.scale == 1.0 else values * np.float32(self.scale)


def read_trim(header: GgufHeader) -> Trim:
    """The added parts of a trimmed file. Raises :class:`ModelFileError` where they do not fit the model."""
    size, ids = header.metadata.get(TRIM_SIZE), np.array(header.int32s(TRIM_IDS), np.int32)
    tokens = header.lengths.get("tokenizer.ggml.tokens", 0)
    if not isinstance(size, int) or len(ids) != tokens or len(ids) == 0:
        raise _changed(header, f"it maps {len(ids)} tokens and has {tokens}")
    if ids[0] < 0 or ids[-1] >= size or (np.diff(ids) <= 0).any():
        raise _changed(header, f"its map of tokens is not one into a vocabulary of {size}")
    if header.architecture not in SCALED_EMBEDDINGS:
        raise _changed(header, f"it is {header.architecture!r}")
    inputs, *others = _tables(header, size)
    scale = math.sqrt(inputs.width) if SCALED_EMBEDDINGS[header.architecture] else 1.0
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
    """The matrices behind the tensors, up to the end of the file."""
    width, at = header.number("embedding_length") or 0, tensors_end(header)
    data: NDArray[Any] = np.asarray(np.memmap(header.path, np.uint8, "r"))  # a plain view: memmaps are slow to index
    found = []
    for key in (INPUT_TYPE, HEAD_TYPE):
        if key == HEAD_TYPE and key not in header.metadata:
            break
        kind = header.metadata.get(key)
        if not isinstance(kind, int) or kind not in BLOCKS or width % BLOCKS[kind][0] or width == 0:
            raise _changed(header, f"{key} is {kind} for rows of {width}")
        row = width // BLOCKS[kind][0] * BLOCKS[kind][1]
        if at + size * row > len(data):
            raise _changed(header, f"the {size} rows of {row} bytes that should follow its tensors are not there")
        found.append(Table(data[at : at + size * row].reshape(size, row), TYPE_NAMES[kind], width))
        at += size * row
    return found


def _changed(header: GgufHeader, reason: str) -> ModelFileError:
    return ModelFileError(
        f"{header.path} was changed since it was trimmed ({reason}); make it again with `localspec trim-draft`."
    )
