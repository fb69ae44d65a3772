"""Options of :func:`localspec.load` that are not settings of the contexts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from localspec.params import DraftParams, ExactnessMode

if TYPE_CHECKING:
    from localspec.chat.choose_template import ChosenTemplate
    from localspec.machines.plan import Plan

#: Bytes of a target's weights up to which everything is measured at once: it takes a few tenths of a second.
MEASURED_AT_ONCE = 64 * 2**20


@dataclass(frozen=True)
class LoadOptions:
    """See :func:`localspec.load`. ``name``: the target's. ``cache_ram``: as the user gave it.

    ``image_tokens``: fewest and most cells of a picture. ``plan``: which machine holds which layers, if there are
    several.
    """

    name: str
    draft: DraftParams
    exactness: ExactnessMode
    pass_width: int | None
    ngram_file: str | Path | None
    verbose: bool
    progress: Callable[[float], None] | None
    template: ChosenTemplate | None = None
    cache_ram: int | None = None
    image_tokens: tuple[int, int] | None = None
    plan: Plan | None = None
