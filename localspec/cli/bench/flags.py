"""Settings of one run of ``localspec bench``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class BenchFlags:
    """Settings of the answers, and destinations of the results."""

    max_tokens: int
    temperature: float
    seed: int
    raw: bool
    repeat: int
    draft_max: int | None
    plot: Path | None
    as_json: bool

    def check(self) -> None:
        """Raise for a chart that cannot be written, before anything is measured."""
        if self.plot is not None:
            from localspec.bench.plot.files import check_picture

            check_picture(self.plot)

    def settings(self) -> dict[str, Any]:
        """The settings of every answer, for JSON."""
        fields = ("max_tokens", "temperature", "seed", "raw", "repeat", "draft_max")
        return {name: getattr(self, name) for name in fields}
