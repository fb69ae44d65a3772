"""Load the engine for a command, with a progress bar and its notices on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from localspec.cli.errors import INTERRUPTED
from localspec.cli.options.model import ModelOptions
from localspec.cli.terminal.interrupt import catching_interrupts, interrupt_at_once, silent_keys
from localspec.cli.terminal.notes import Notes, notice
from localspec.cli.terminal.progress import ProgressBar
from localspec.models.hub.names import short_name

if TYPE_CHECKING:
    from localspec.engine import Engine


class Several(NamedTuple):
    """How many answers at the same time, and MiB for the caches of earlier conversations; see ``localspec.load``."""

    parallel: int = 1
    cache_ram: int | None = None


ONE = Several()


def load_engine(options: ModelOptions, *, measured: bool = False, several: Several = ONE) -> Engine:
    """Load target and drafter. Ctrl-C ends the program. ``measured``: also measure exactness and costs now."""
    if options.rpc is not None:
        _tell_of_workers()
    with silent_keys() as restore, ProgressBar(f"Loading {short_name(options.model)}", sys.stderr) as bar:

        def leave() -> None:
            # llama.cpp calls back into Python while it loads, and an exception would be lost there.
            bar.end()
            restore()
            os._exit(INTERRUPTED)

        with catching_interrupts(leave):
            engine = open_engine(options, several, bar.fraction)
    if measured:
        _measure(engine)
    for sentence in engine.notices:
        notice(sentence)
    return engine


def _tell_of_workers() -> None:
    """Print what happens to workers while a model is used."""
    import logging

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if sys.stderr.isatty():
                Notes(sys.stderr).plain()  # an answer may have begun a line
            notice(record.getMessage())
            interrupt_at_once(bool(getattr(record, "waits", False)))

    log = logging.getLogger("localspec.machines")
    log.handlers, log.propagate = [Told()], False


def _measure(engine: Engine) -> None:
    """Wait for the measurement of a pair that is new on this machine."""
    try:
        with silent_keys(), ProgressBar("Measuring", sys.stderr):
            engine.measure()
    except BaseException:
        engine.close()
        raise


def open_engine(options: ModelOptions, several: Several, progress: Callable[[float], None]) -> Engine:
    """Load target and drafter without a word; ``progress`` is called with the share loaded."""
    import localspec

    return localspec.load(
        options.model,
        options.draft,
        ctx_size=_context_size(options),
        parallel=several.parallel,
        cache_ram=several.cache_ram,
        threads=options.threads,
        gpu_layers=options.gpu_layers,
        device=options.device,
        cache_type_k=options.cache_type_k,
        cache_type_v=options.cache_type_v,
        draft_max=options.draft_max,
        exactness=options.exactness,
        pass_width=options.pass_width,
        ngram_file=options.ngram_file,
        rpc=options.rpc,
        verbose=options.verbose,
        chat_template=options.template,
        mmproj=options.mmproj,
        image_tokens=options.image_tokens,
        progress=progress,
    )


def _context_size(options: ModelOptions) -> int | None:
    """The size in tokens; 0 is replaced by the size of the training context. None is left to the engine."""
    if options.ctx_size != 0:
        return options.ctx_size
    from localspec.gguf.header import read_header
    from localspec.models.resolve import resolve_model

    return read_header(resolve_model(options.model)).number("context_length")
