"""Models → contexts → measurement → engine, one step behind the load test."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from localspec.draft.late import LateDrafter
from localspec.engine import Engine
from localspec.generation.kept import KeptCaches
from localspec.loading.contexts import make_pairs, open_contexts
from localspec.loading.files import PairFiles
from localspec.loading.late import LateModel
from localspec.loading.measuring import measure
from localspec.loading.models import drafter_params, load_models, load_template, model_info
from localspec.loading.options import LoadOptions
from localspec.memory.fit import LoadSettings, Machine, kept_bytes
from localspec.params import ContextParams
from localspec.probe.exactness import settings_to_try
from localspec.probe.load_test import Trial

if TYPE_CHECKING:
    from localspec.loading.spread import Spread


def assemble(
    files: PairFiles,
    options: LoadOptions,
    fitted: LoadSettings,
    machine: Machine,
    spread: Spread | None,
    trial: Trial,
) -> Engine:
    """The engine of ``files``, which are on ``trial``, with settings that fit the ``machine``.

    ``spread``: the target's layers on several machines.
    Where exactness is required, these are tried one after another.
    """
    kept = kept_bytes(options.cache_ram, fitted.target, machine)
    parts = _Parts(files, options, kept, fitted.drafter.gpu_layers, spread, trial)
    notices = [*fitted.notices, *trial.loaded()]
    *others, last = settings_to_try(options.exactness, fitted.target)
    for settings in others:
        if engine := parts.open(settings, notices, last=False):
            return engine
    engine = parts.open(last, notices, last=True)
    assert engine is not None
    return engine


@dataclass(frozen=True)
class _Parts:
    """Parts of an engine, besides the target's settings. ``kept``: bytes of caches of earlier conversations."""

    files: PairFiles
    options: LoadOptions
    kept: int
    draft_layers: int | None
    spread: Spread | None
    trial: Trial

    def open(self, params: ContextParams, notices: Sequence[str], *, last: bool) -> Engine | None:
        """Load with these settings. Returns None, and frees everything, if they are not exact and not the ``last``."""
        options = self.options
        with ExitStack() as stack:
            models = load_models(self.files, options, params, self.draft_layers, self.spread, stack)
            contexts = open_contexts(models, stack)
            self.trial.passed()
            template, about_template = load_template(models.target, options.template)
            about, late = [*notices, *models.notices, *about_template], self._late(params, stack)
            measured = measure(models, contexts[0], options, about, late, last=last)
            if measured is None:
                return None
            setup, measurement = measured
            drafters = late.drafters if late else ()
            pair, scheduler = make_pairs(
                models, contexts, options.ngram_file, self.kept, options.image_tokens, drafters
            )
            info, close = model_info(options.name, models.target, options.plan), stack.pop_all().close
            kept = KeptCaches(self.kept)
            return Engine(
                pair, setup, measurement, model=info, template=template, close=close, scheduler=scheduler, kept=kept
            )

    def _late(self, params: ContextParams, stack: ExitStack) -> LateModel | None:
        """The draft model that is loaded after the first answer, if there is one. ``stack`` frees it."""
        if self.files.late is None:
            return None
        drafters = [LateDrafter() for _ in range(params.sequences)]
        late = LateModel(self.files.late, drafter_params(params, self.draft_layers), self.options.verbose, drafters)
        stack.callback(late.close)
        return late
