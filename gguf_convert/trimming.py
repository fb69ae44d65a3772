"""GGUF file → a drafter of the same model whose output head keeps some tokens (FR-Spec, Zhao et al., arXiv 2502.14856).

The new file is an ordinary model of a smaller vocabulary: token list, merges, embedding and head have the kept rows, as
they were, bit for bit. Behind the tensors the input embeddings and the head of all tokens follow
(:mod:`localspec.llama.trim_file`), so that the drafter can read any text, and say a text's own rare words.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from gguf_convert.files import check_destination, check_room, replaced_when_done
from gguf_convert.trim_metadata import trimmed_metadata
from gguf_convert.trim_vocabulary import TOKENS, Ids, Ranking, always_kept, choose, rank
from localspec.errors import ConvertError, UsageError
from localspec.gguf.header import GgufHeader, TensorInfo, is_trimmed, read_header
from localspec.gguf.types import BLOCKS
from localspec.llama.trim_file import SCALED_EMBEDDINGS

#: At most so many bytes of text are read: beyond, the order of the kept tokens hardly moves.
TEXT_LIMIT = 64 * 2**20
_EMBEDDING, _HEAD, _HEAD_BIAS = "token_embd.weight", "output.weight", "output.bias"
_COPY = 1 << 24


@dataclass(frozen=True)
class TrimReport:
    """What was written. ``kept`` of ``vocabulary`` tokens; ``covered``: their share of the text's tokens, if any.

    ``step_bytes`` are the weights that a draft step reads, now and before.
    """

    path: Path
    kept: int
    vocabulary: int
    ranking: Ranking | None
    covered: float
    bytes: int
    step_bytes: tuple[int, int]


def trim(
    in_path: str | os.PathLike[str],
    out_path: str | os.PathLike[str],
    keep: int = 16384,
    texts: Sequence[str | os.PathLike[str]] = (),
    *,
    progress: Callable[[int, int], None] | None = None,
    force: bool = False,
) -> TrimReport:
    """Write ``in_path`` again as a drafter of ``keep`` tokens, rounded up to a multiple of 64.

    ``texts``: files and folders by which tokens are ranked, in place of the vocabulary's own order; ``progress`` is
    called with bytes of text read and in all. An existing file is replaced only with ``force``. Raises a
    LocalspecError, and then leaves no file behind.
    """
    if keep < 1:
        raise UsageError(f"keep is {keep}; it must be at least 1.")
    source, out = Path(in_path), Path(out_path)
    check_destination(out, force)
    header = read_header(source)
    check_trimmable(header)
    if out.exists() and out.samefile(source):
        raise ConvertError(f"{out} is the file to read: give the result another name.")
    first = always_kept(header)
    choose(header, first, keep, None)  # what cannot be is refused before the text is read
    ranking = rank(header, [Path(text) for text in texts], TEXT_LIMIT, progress) if texts else None
    ids = choose(header, first, keep, ranking)
    check_room(out, source.stat().st_size + len(ids) * 8 * (header.number("embedding_length") or 0))
    with replaced_when_done(out) as partial:
        write_trimmed(header, partial, ids)
    made, size = read_header(out), header.lengths[TOKENS]
    step = step_bytes(made), step_bytes(header)
    return TrimReport(out, len(ids), size, ranking, ranking.share(ids) if ranking else 0.0, out.stat().st_size, step)


def check_trimmable(header: GgufHeader) -> None:
    """ConvertError where the file is of a kind that cannot be trimmed."""
    name, shapes = header.path.name, {tensor.name: tensor.shape for tensor in header.tensors}
    if is_trimmed(header):
        raise ConvertError(f"{name} is trimmed already: start from the file that it was made from.")
    if isinstance(count := header.metadata.get("split.count"), int) and count > 1:
        raise ConvertError(f"{name} is one of {count} parts: merge them first, with llama-gguf-split --merge.")
    if header.architecture == "gemma4-assistant":
        raise ConvertError(f"{name} is an MTP assistant, which llama.cpp runs with its target's whole vocabulary only.")
    if header.architecture not in SCALED_EMBEDDINGS:
        raise ConvertError(
            f"{name} is {header.architecture!r}, which cannot be fed tokens that its head lacks; these can: "
            f"{', '.join(SCALED_EMBEDDINGS)}."
        )
    if _HEAD_BIAS in shapes:
        raise ConvertError(f"{name} has a bias in its head, which this version does not trim.")
    size = header.lengths.get(TOKENS, 0)
    for tensor in (_EMBEDDING, _HEAD):
        if tensor in shapes and (len(shapes[tensor]) != 2 or shapes[tensor][1] != size):
            raise ConvertError(
                f"{name} has {size} tokens and {tensor} of shape {list(shapes[tensor])}: convert it again."
            )
    if _EMBEDDING not in shapes or header.number("embedding_length") != shapes[_EMBEDDING][0]:
        raise ConvertError(f"{name} has no {_EMBEDDING} of its width: give a language model.")
    unknown = next((t.name for t in header.tensors if t.type not in BLOCKS), None)
    if unknown:
        raise ConvertError(f"{name} has {unknown} in a type that this version does not know: quantise it again.")


def write_trimmed(header: GgufHeader, path: Path, ids: Ids) -> None:
    """Write the trimmed file as ``path``; one tensor in memory at a time."""
    tables = [tensor for name in (_EMBEDDING, _HEAD) for tensor in header.tensors if tensor.name == name]
    step = _alignment(header)
    shapes = [_shape(tensor, len(ids)) for tensor in header.tensors]
    data: NDArray[np.uint8] = np.memmap(header.path, np.uint8, "r")
    with path.open("wb") as new:
        metadata = trimmed_metadata(header, ids, [table.type for table in tables])
        new.write(b"GGUF" + struct.pack("<IQQ", 3, len(header.tensors), len(metadata)) + b"".join(metadata))
        offset = 0
        for tensor, shape in zip(header.tensors, shapes, strict=True):
            new.write(_describe(tensor, shape, offset))
            offset += -(-_size(tensor, shape) // step) * step
        _pad(new, step)
        for tensor, shape in zip(header.tensors, shapes, strict=True):
            start = header.data_start + tensor.offset
            stored = data[start : start + _size(tensor, tensor.shape)]
            _copy(new, stored.reshape(tensor.shape[-1], -1)[ids] if shape != tensor.shape else stored)
            _pad(new, step)
        for table in tables:
            start = header.data_start + table.offset
            _copy(new, data[start : start + _size(table, table.shape)])
        new.flush()
        os.fsync(new.fileno())


def step_bytes(header: GgufHeader) -> int:
    """The weights that are read to decode one token."""
    vectors = [tensor for tensor in header.tensors if len(tensor.shape) == 1]
    return sum(tensor.bytes or 0 for tensor in [*header.multiplied, *vectors])


def _alignment(header: GgufHeader) -> int:
    step = header.metadata.get("general.alignment", 32)
    return step if isinstance(step, int) else 32


def _shape(tensor: TensorInfo, kept: int) -> tuple[int, ...]:
    return (*tensor.shape[:-1], kept) if tensor.name in (_EMBEDDING, _HEAD) else tensor.shape


def _size(tensor: TensorInfo, shape: Sequence[int]) -> int:
    per_block, size = BLOCKS[tensor.type]
    return math.prod(shape) // per_block * size


def _describe(tensor: TensorInfo, shape: Sequence[int], offset: int) -> bytes:
    name = tensor.name.encode()
    return struct.pack(f"<Q{len(name)}sI{len(shape)}QIQ", len(name), name, len(shape), *shape, tensor.type, offset)


def _copy(new: IO[bytes], data: NDArray[np.uint8]) -> None:
    flat = data.reshape(-1)
    for start in range(0, len(flat), _COPY):
        new.write(flat[start : start + _COPY].tobytes())


def _pad(new: IO[bytes], step: int) -> None:
    new.write(bytes(-new.tell() % step))
