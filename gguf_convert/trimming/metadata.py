"""Metadata of a trimmed file: that of the whole file, with token ids replaced by the new ones."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from localspec.errors import ConvertError
from localspec.gguf.header import TRIM_IDS, TRIM_SIZE, GgufHeader
from localspec.gguf.types import ARRAY, FLOAT32, INT32, STRING, UINT32
from localspec.llama.trim_file import HEAD_TYPE, INPUT_TYPE

_TOKENS, _MERGES = "tokenizer.ggml.tokens", "tokenizer.ggml.merges"
#: Arrays with a value for each token, and the type of the value.
_BY_TOKEN = {"tokenizer.ggml.scores": FLOAT32, "tokenizer.ggml.token_type": INT32}
#: Id that stands for no token.
_NO_TOKEN = 2**32 - 1


def trimmed_metadata(header: GgufHeader, ids: NDArray[np.int64], types: Sequence[int]) -> list[bytes]:
    """Return the packed pairs in the order of the file, then those of :mod:`localspec.llama.trim_file`.

    ``ids`` are the kept tokens, ascending; ``types`` the ggml types of the tables behind the tensors.
    """
    changed = dict(_changed(header, ids))
    data = np.memmap(header.path, np.uint8, "r")
    pairs = []
    for key, span in header.spans.items():
        value = changed.get(key, struct.pack("<I", span.kind) + data[span.start : span.end].tobytes())
        pairs.append(_string(key.encode()) + value)
    own = {
        TRIM_IDS: _numbers(INT32, ids.astype("<i4")),
        TRIM_SIZE: struct.pack("<II", UINT32, header.lengths[_TOKENS]),
        **{key: struct.pack("<II", UINT32, kind) for key, kind in zip((INPUT_TYPE, HEAD_TYPE), types, strict=False)},
    }
    return [*pairs, *(_string(key.encode()) + value for key, value in own.items())]


def _changed(header: GgufHeader, ids: NDArray[np.int64]) -> Iterator[tuple[str, bytes]]:
    """Yield the keys that change, with their new type and value."""
    old = header.strings(_TOKENS)
    kept = [old[i] for i in ids.tolist()]
    new_id = {before: after for after, before in enumerate(ids.tolist())}
    yield _TOKENS, _strings(kept)
    for key, kind in _BY_TOKEN.items():
        if header.lengths.get(key, len(old)) != len(old):
            raise ConvertError(
                f"{header.path.name} has {len(old)} tokens and {key} for {header.lengths[key]}: convert it again."
            )
        if key in header.lengths:
            yield key, _numbers(kind, np.array(header.int32s(key, kind), np.int32)[ids])
    if _MERGES in header.lengths:
        yield _MERGES, _strings(possible_merges(header.strings(_MERGES), kept))
    for key, value in header.metadata.items():
        if key == f"{header.architecture}.vocab_size":
            yield key, struct.pack("<II", UINT32, len(ids))
        elif key.startswith("tokenizer.ggml.") and key.endswith("_token_id") and isinstance(value, int):
            yield key, struct.pack("<II", UINT32, new_id.get(value, _NO_TOKEN))
    for key in header.lengths:
        if key in ("tokenizer.ggml.suppress_tokens", "tokenizer.ggml.eog_token_ids"):
            found = header.int32s(key)
            yield key, _numbers(INT32, np.array([new_id[i] for i in found if i in new_id], "<i4"))


def possible_merges(merges: Sequence[bytes], tokens: Sequence[bytes]) -> list[bytes]:
    """Return the ``merges`` whose parts and result are all in ``tokens``."""
    known = set(tokens)
    found = []
    for merge in merges:
        gap = merge.find(b" ", 1)  # llama.cpp splits a merge here
        left, right = merge[:gap], merge[gap + 1 :]
        if left in known and right in known and left + right in known:
            found.append(merge)
    return found


def _string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _strings(texts: Sequence[bytes]) -> bytes:
    return struct.pack("<IIQ", ARRAY, STRING, len(texts)) + b"".join(map(_string, texts))


def _numbers(kind: int, values: NDArray[np.int32]) -> bytes:
    return struct.pack("<IIQ", ARRAY, kind, len(values)) + values.tobytes()
