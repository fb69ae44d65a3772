"""Types of a file's matrices, and whether rows of wide passes are those of single ones on a CPU. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from localspec.gguf.header import GgufHeader, TensorInfo
from localspec.gguf.types import BLOCKS, EXACT_TYPES, TYPE_NAMES, TYPE_NUMBERS
from localspec.models.pairing import read_per_token

#: Largest share of a file's matrices that is quantised again for exact rows: more would cost too much quality.
_SHARE = 0.5
#: Matrices that ``quantize --exact`` stores in Q8_0.
_HEADS = ("output.weight", "token_embd.weight", "per_layer_model_proj.weight")


@dataclass(frozen=True)
class RowTypes:
    """Bytes of a file, bytes read for a token, types of its matrices that are not exact on a CPU, and their share.

    ``copy`` and ``copy_read`` are those of a copy by ``localspec quantize --exact --requantize``.
    """

    size: int
    read: int
    inexact: tuple[str, ...]
    share: float
    copy: int
    copy_read: int

    @property
    def exact(self) -> bool:
        """True if rows are exact at every width on a CPU."""
        return not self.inexact

    @property
    def worth_a_copy(self) -> bool:
        """True if few matrices need another type, so that the copy is nearly the file."""
        return 0 < self.share <= _SHARE


def row_types(header: GgufHeader, size: int) -> RowTypes:
    """Look at the matrices that are multiplied in a file of ``size`` bytes, or of its first part."""
    matrices = header.multiplied
    inexact = [tensor for tensor in matrices if TYPE_NAMES.get(tensor.type) not in EXACT_TYPES]
    bytes_of = {id(tensor): tensor.bytes or 0 for tensor in matrices}
    grown = sum(_exact_bytes(tensor) - bytes_of[id(tensor)] for tensor in inexact)
    read, whole = read_per_token(header), sum(bytes_of.values())
    return RowTypes(
        size=size,
        read=round(read),
        inexact=tuple(sorted({TYPE_NAMES.get(tensor.type, f"type {tensor.type}") for tensor in inexact})),
        share=sum(bytes_of[id(tensor)] for tensor in inexact) / max(1, whole),
        copy=max(0, size + grown),
        copy_read=max(0, round(read + grown * read / max(1, whole))),
    )


def _exact_bytes(tensor: TensorInfo) -> int:
    elements, size = BLOCKS[TYPE_NUMBERS["Q8_0" if tensor.name in _HEADS or "ffn_gate_inp" in tensor.name else "Q4_0"]]
    return tensor.elements // elements * size
