"""What a conversion or a quantisation tells about the file that it wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Fallback:
    """A tensor that did not get the requested type, and why."""

    tensor: str
    type: str
    reason: str


@dataclass(frozen=True)
class Report:
    """What was written. ``tensors`` counts them; ``bytes`` is the size of the file.

    ``notes`` are sentences about what was left out, and where the file will behave differently from the checkpoint.
    """

    path: Path
    architecture: str
    type: str
    tensors: int
    bytes: int
    fallbacks: tuple[Fallback, ...]
    notes: tuple[str, ...]


def inexact(fallbacks: Sequence[Fallback]) -> tuple[str, ...]:
    """The note of a file that was to be exact, and has a matrix in a type whose rows are not."""
    floats = [fallback for fallback in fallbacks if fallback.type == "F16"]
    return tuple(
        f"Rows of a batch may differ from single rows, because {fallback.tensor} is F16 ({fallback.reason})."
        for fallback in floats[:1]
    )
