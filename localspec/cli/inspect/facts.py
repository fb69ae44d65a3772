"""Facts of a GGUF file from its header: its role, and the files beside it that it pairs with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from localspec.gguf.header import GgufHeader

#: Most files read beside the inspected one.
_MOST_BESIDE = 64
#: Most weights of a draft model over those of its target; another quantisation of the target is no drafter.
_LARGEST_DRAFTER = 0.8
#: The role of a drafter with a trimmed vocabulary.
TRIMMED = "trimmed drafter"
#: Role of a file of prediction heads alone.
HEADS = "prediction heads"
#: Role of an EAGLE-3 head.
EAGLE = "EAGLE-3 head"
#: Roles of files that only draft.
ONLY_DRAFT = ("assistant", TRIMMED, HEADS, EAGLE)


@dataclass(frozen=True)
class Neighbour:
    """A file beside the inspected one that can draft for it, or that it can draft for; ``role`` is the drafter's."""

    file: str
    role: str


@dataclass(frozen=True)
class Inspection:
    """Facts of one file.

    ``role``: one of :data:`ONLY_DRAFT`, "draft model" (smaller than a model beside it with the same vocabulary) or
    "target". ``inexact``: the first matrix whose rows a CPU may compute differently in a batch, by its type.
    ``heads``: it has prediction heads.
    """

    header: GgufHeader
    role: str
    drafters: tuple[Neighbour, ...]
    targets: tuple[Neighbour, ...]
    inexact: str | None
    heads: bool = False

    @property
    def types(self) -> dict[str, tuple[int, int]]:
        """Type → number of tensors and their bytes, largest total first."""
        counts, sizes = Counter[str](), Counter[str]()
        for tensor in self.header.tensors:
            counts[type_name(tensor.type)] += 1
            sizes[type_name(tensor.type)] += tensor.bytes or 0
        return {name: (counts[name], size) for name, size in sizes.most_common()}


def inspected(header: GgufHeader) -> Inspection:
    """Facts of a file from its header and the headers beside it."""
    from localspec.models.heads import has_heads

    drafters, targets = [], []
    for other in beside(header.path):
        if role := drafts_for(other, header):
            drafters.append(Neighbour(str(other.path), role))
        elif role := drafts_for(header, other):
            targets.append(Neighbour(str(other.path), role))
    role = only_drafts(header) or ("draft model" if targets else "target")
    return Inspection(header, role, tuple(drafters), tuple(targets), inexact_tensor(header), has_heads(header))


def beside(path: Path) -> Iterator[GgufHeader]:
    """The readable GGUF files in the folder of ``path`` and its ``MTP``; for a file in ``MTP`` in the one above too."""
    from localspec.errors import LocalspecError
    from localspec.gguf.header import read_header

    folder = path.resolve().parent
    patterns = [(folder, "*.gguf"), (folder, "MTP/*.gguf")]
    if folder.name == "MTP":
        patterns.append((folder.parent, "*.gguf"))
    found = sorted(file for place, pattern in patterns for file in place.glob(pattern))
    for file in islice((file for file in found if file != path.resolve()), _MOST_BESIDE):
        try:
            yield read_header(file)
        except LocalspecError:
            continue


def drafts_for(drafter: GgufHeader, target: GgufHeader) -> str | None:
    """The role of ``drafter`` for ``target``, or None if it cannot draft for it."""
    from localspec.errors import ModelFileError
    from localspec.models.pairing import check_pairing
    from localspec.models.vocabulary import vocabulary_mismatch

    if only_drafts(target):
        return None
    try:
        if role := only_drafts(drafter):
            return role if check_pairing(target, drafter).kind else None
        smaller = weights(drafter) < _LARGEST_DRAFTER * weights(target)
        return "draft model" if smaller and vocabulary_mismatch(target, drafter) is None else None
    except ModelFileError:
        return None


def only_drafts(header: GgufHeader) -> str | None:
    """The role of a file that only drafts, None for another."""
    from localspec.gguf.header import is_trimmed
    from localspec.models.eagle import is_eagle
    from localspec.models.heads import is_heads_alone
    from localspec.models.pairing import is_assistant

    kinds = zip(ONLY_DRAFT, (is_assistant, is_trimmed, is_heads_alone, is_eagle), strict=True)
    return next((role for role, is_one in kinds if is_one(header)), None)


def weights(header: GgufHeader) -> int:
    """Number of weights."""
    return sum(tensor.elements for tensor in header.tensors)


def inexact_tensor(header: GgufHeader) -> str | None:
    """The name of the first matrix that is multiplied in another type than Q4_0 or Q8_0, if there is one."""
    from localspec.gguf.types import EXACT_TYPES

    return next((t.name for t in header.multiplied if type_name(t.type) not in EXACT_TYPES), None)


def type_name(number: int) -> str:
    """The name of a tensor type."""
    from localspec.gguf.types import TYPE_NAMES

    return TYPE_NAMES.get(number, f"type {number}")
