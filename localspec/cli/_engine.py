"""Opens the engine for a command, with a progress bar and its notices on standard error."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from localspec.cli._errors import tell
from localspec.cli._interrupt import silent_keys
from localspec.cli._options import ModelOptions
from localspec.cli._progress import Progress

if TYPE_CHECKING:
    from localspec.engine import Engine


def open_engine(options: ModelOptions) -> Engine:
    """Load target and drafter."""
    with silent_keys(), Progress(f"Loading {short_name(options.model)}", sys.stderr) as bar:
        import localspec

        engine = localspec.load(
            options.model,
            options.draft,
            ctx_size=options.ctx_size,
            threads=options.threads,
            gpu_layers=options.gpu_layers,
            device=options.device,
            draft_max=options.draft_max,
            verbose=options.verbose,
            progress=bar.fraction,
        )
    for notice in engine.notices:
        tell(notice)
    return engine


def short_name(model: str) -> str:
    """The last part of a path or Hub name."""
    return model.replace("\\", "/").rstrip("/").rpartition("/")[2] or model
