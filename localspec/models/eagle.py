"""EAGLE-3 heads: a file with one layer, which reads the inputs of three layers of its target.

Keys and shapes are those of llama.cpp's ``src/models/eagle3.cpp``. It ends the process on others, so they are checked.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence

from localspec.errors import DraftMismatchError
from localspec.gguf.header import GgufHeader
from localspec.gguf.types import TYPE_NUMBERS
from localspec.models.drafter_kinds import LAYER_INPUTS
from localspec.models.vocabulary import TOKENS

_ARCHITECTURE = "eagle3"
#: Layers of the target that a head reads.
_READ = 3


def is_eagle(header: GgufHeader) -> bool:
    """True for a file of an EAGLE-3 head."""
    return header.architecture == _ARCHITECTURE


def read_layers(header: GgufHeader | None) -> tuple[int, ...]:
    """The layers of the target whose inputs a head reads; empty for a file that is no EAGLE-3 head."""
    found = header.metadata.get(f"{_ARCHITECTURE}.target_layers") if header and is_eagle(header) else None
    return tuple(layer for layer in found if isinstance(layer, int)) if isinstance(found, tuple) else ()


def eagle_mismatch(target: GgufHeader, head: GgufHeader) -> str | None:
    """Reason why an EAGLE-3 head cannot draft for ``target``, None if it can. May read the head's token ids."""
    if target.architecture not in LAYER_INPUTS:
        return f"llama.cpp gives no inputs of layers of {target.architecture!r}, which it reads"
    layers = read_layers(head)
    count = (target.number("block_count") or 0) - (target.number("nextn_predict_layers") or 0)
    if len(layers) != _READ or not all(0 <= layer < count for layer in layers):
        return f"it reads the layers {', '.join(map(str, layers)) or 'of no target'}, and the target has {count}"
    wants, has = head.number("target_hidden_size"), target.number("embedding_length")
    if wants != has:
        return f"it reads rows of width {wants}, and the target's are {has} wide"
    a, b = head.lengths.get(TOKENS, 0), target.lengths.get(TOKENS, 0)
    return f"their vocabularies differ in size ({a} and {b})" if a != b else _shape_mismatch(head, has or 0, b)


def check_eagle(target: GgufHeader, head: GgufHeader) -> None:
    """Raise :class:`DraftMismatchError` if an EAGLE-3 head cannot draft for the target."""
    if reason := eagle_mismatch(target, head):
        raise DraftMismatchError(
            f"{head.path.name} cannot draft for {target.path.name}: {reason}. "
            "Give the EAGLE-3 head made for this target, or use `-d ngram`."
        )


def _shape_mismatch(head: GgufHeader, target_width: int, n_vocab: int) -> str | None:
    """Reason why llama.cpp could not compute the head's graph."""
    width, shapes = head.number("embedding_length") or 0, {tensor.name: tensor.shape for tensor in head.tensors}
    if head.number("block_count") != 1:
        return f"it has {head.number('block_count')} layers, and an EAGLE-3 head has one"
    if shapes.get("fc.weight") != (_READ * target_width, width):
        return f"its fc.weight has the shape {shapes.get('fc.weight')}, not {(_READ * target_width, width)}"
    missing = [name for name in ("token_embd.weight", "output.weight") if name not in shapes]
    if missing and width != target_width:
        return f"it takes {missing[0]} from its target, which is {target_width} wide, and it is {width} wide"
    return _token_mismatch(head, shapes.get("output.weight", (0, n_vocab))[-1], n_vocab)


def _token_mismatch(head: GgufHeader, rows: int, n_vocab: int) -> str | None:
    """Reason why the ``rows`` of the head's output cannot be written into a row of ``n_vocab`` logits."""
    ids = _token_ids(head)
    if ids is None:
        return "its d2t holds no 64-bit numbers"
    if len(ids) != rows:
        return f"it names {len(ids)} tokens for {rows} rows of its output"
    if ids and not 0 <= min(ids) <= max(ids) < n_vocab:
        return f"it names the tokens {min(ids)} to {max(ids)}, and the target has {n_vocab}"
    return None


def _token_ids(head: GgufHeader) -> Sequence[int] | None:
    """The target's token for each row of the head's output (``d2t``), and every token where it has none.

    None for numbers of another type than llama.cpp reads.
    """
    tensor = next((tensor for tensor in head.tensors if tensor.name == "d2t"), None)
    if tensor is None:
        return range(head.lengths.get(TOKENS, 0))
    if tensor.type != TYPE_NUMBERS["I64"]:
        return None
    with head.path.open("rb") as file:
        file.seek(head.data_start + tensor.offset)
        found = array("q", file.read(8 * tensor.elements))
    if sys.byteorder == "big":
        found.byteswap()
    return found
