"""Make a drafter with a trimmed vocabulary: an output head for the frequent tokens only.

Method: FR-Spec, Zhao et al., arXiv 2502.14856. The new file is an ordinary model with a smaller vocabulary: token list,
merges, embedding and head keep some rows, bit for bit. The embedding and the head of all tokens follow behind the
tensors (:mod:`localspec.llama.trim_file`), so that the drafter can read any text and draft the rare tokens of the text
at hand.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gguf_convert.output.files import check_destination, check_space, replaced_when_done
from gguf_convert.output.rewrite import pieces, stored, write_copy
from gguf_convert.trimming.kept_tokens import TOKENS, Ids, Ranking, always_kept, choose, rank
from gguf_convert.trimming.metadata import trimmed_metadata
from localspec.errors import ConvertError, UsageError
from localspec.gguf.header import GgufHeader, TensorInfo, is_trimmed, read_header
from localspec.gguf.types import BLOCKS
from localspec.llama.trim_file import SCALED_EMBEDDINGS
from localspec.types import Progress

#: Most bytes of text that are read: more text hardly changes the order of the tokens.
TEXT_LIMIT = 64 * 2**20
_EMBEDDING, _HEAD, _HEAD_BIAS = "token_embd.weight", "output.weight", "output.bias"


@dataclass(frozen=True)
class TrimReport:
    """A written file: ``kept`` of ``vocabulary`` tokens.

    ``covered`` is the share of the text's tokens that are kept (0 without a text), ``step_bytes`` the bytes of weights
    that a draft step reads, after and before.
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
    progress: Progress | None = None,
    force: bool = False,
) -> TrimReport:
    """Write a drafter with ``keep`` tokens of the model ``in_path``, rounded up to a multiple of 64.

    Tokens are ranked by their frequency in ``texts`` (files and folders), without texts by their order in the
    vocabulary. ``progress`` is called with (bytes of text read, bytes in all). An existing file is replaced only with
    ``force``. Raises a LocalspecError, and then leaves no file behind.
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
    choose(header, first, keep, None)  # refuse a bad count before the text is read
    ranking = rank(header, [Path(text) for text in texts], TEXT_LIMIT, progress) if texts else None
    ids = choose(header, first, keep, ranking)
    check_space(out, source.stat().st_size + len(ids) * 8 * (header.number("embedding_length") or 0))
    with replaced_when_done(out) as partial:
        write_trimmed(header, partial, ids)
    made, size = read_header(out), header.lengths[TOKENS]
    step = step_bytes(made), step_bytes(header)
    return TrimReport(out, len(ids), size, ranking, ranking.share(ids) if ranking else 0.0, out.stat().st_size, step)


def check_trimmable(header: GgufHeader) -> None:
    """Raise ConvertError for a file that cannot be trimmed."""
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
        raise ConvertError(f"{name} has {unknown} in a type that this version does not support: quantise it again.")


def write_trimmed(header: GgufHeader, path: Path, ids: Ids) -> None:
    """Write the trimmed file as ``path``. Keeps one tensor in memory at a time."""
    tables = [tensor for name in (_EMBEDDING, _HEAD) for tensor in header.tensors if tensor.name == name]
    metadata = trimmed_metadata(header, ids, [table.type for table in tables])
    preamble = b"GGUF" + struct.pack("<IQQ", 3, len(header.tensors), len(metadata))
    tensors = [
        (replace(tensor, shape=(*tensor.shape[:-1], len(ids))), _kept_rows(header, tensor, ids))
        if tensor in tables
        else (tensor, pieces(stored(header, tensor)))
        for tensor in header.tensors
    ]
    whole = [pieces(stored(header, table)) for table in tables]
    write_copy(path, header, [preamble, *metadata], tensors, behind=chain.from_iterable(whole))


def _kept_rows(header: GgufHeader, tensor: TensorInfo, ids: Ids) -> Iterator[NDArray[np.uint8]]:
    data = stored(header, tensor)
    rows = np.memmap(data.path, np.uint8, "r", data.offset, (tensor.shape[-1], data.size // tensor.shape[-1]))
    yield np.asarray(rows[ids]).reshape(-1)


def step_bytes(header: GgufHeader) -> int:
    """Return the bytes of weights that are read to decode one token."""
    vectors = [tensor for tensor in header.tensors if len(tensor.shape) == 1]
    return sum(tensor.bytes or 0 for tensor in [*header.multiplied, *vectors])
