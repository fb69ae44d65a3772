"""Result of a conversion or a quantisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Fallback:
    """A tensor that got another type than the requested one, with the reason."""

    tensor: str
    type: str
    reason: str


@dataclass(frozen=True)
class Report:
    """A written file: number of tensors, size in bytes, and tensors of another type.

    ``notes`` are sentences about what was left out, and about differences in behaviour from the checkpoint.
    """

    path: Path
    architecture: str
    type: str
    tensors: int
    bytes: int
    fallbacks: tuple[Fallback, ...]
    notes: tuple[str, ...]


def inexact_notes(fallbacks: Sequence[Fallback]) -> tuple[str, ...]:
    """Return the note for a file of an exact recipe that has a matrix in F16, whose rows are not exact in a batch."""
    floats = [fallback for fallback in fallbacks if fallback.type == "F16"]
    return tuple(
        f"Rows of a batch may differ from single rows, because {fallback.tensor} is F16 ({fallback.reason})."
        for fallback in floats[:1]
    )
