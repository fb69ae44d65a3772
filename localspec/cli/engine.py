"""Opens the engine for a command, with a progress bar and its notices on standard error."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from localspec.cli.errors import INTERRUPTED, tell
from localspec.cli.options.shared import ModelOptions
from localspec.cli.terminal.interrupt import listening, silent_keys
from localspec.cli.terminal.progress import Progress
from localspec.models.hub.names import short_name

if TYPE_CHECKING:
    from localspec.engine import Engine


def open_engine(options: ModelOptions) -> Engine:
    """Load target and drafter. Ctrl-C meanwhile ends the program."""
    with silent_keys() as restore, Progress(f"Loading {short_name(options.model)}", sys.stderr) as bar:

        def leave() -> None:
            # llama.cpp calls back into Python while it loads, and an exception would be lost there.
            bar.end()
            restore()
            os._exit(INTERRUPTED)

        with listening(leave):
            engine = _load(options, bar)
    for notice in engine.notices:
        tell(notice)
    return engine


def _load(options: ModelOptions, bar: Progress) -> Engine:
    import localspec

    return localspec.load(
        options.model,
        options.draft,
        ctx_size=options.ctx_size,
        threads=options.threads,
        gpu_layers=options.gpu_layers,
        device=options.device,
        draft_max=options.draft_max,
        exactness=options.exactness,
        ngram_file=options.ngram_file,
        verbose=options.verbose,
        progress=bar.fraction,
    )
