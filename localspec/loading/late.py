"""A draft model that is loaded after the first answer.

That answer is plain while the pair is new on this machine, so it need not wait until a draft model is tried and read.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field

from localspec.draft.late import LateDrafter
from localspec.gguf.header import GgufHeader
from localspec.llama.context import LlamaContext
from localspec.llama.model import LlamaModel
from localspec.loading.contexts import model_drafter, open_drafter
from localspec.loading.models import with_drafter
from localspec.params import ContextParams
from localspec.probe.contexts import LoadedModels
from localspec.probe.gaps import Gate
from localspec.probe.load_test import Trial


@dataclass
class LateModel:
    """A draft model with its settings ``params``, and the ``drafters`` that wait for it, one for each sequence."""

    draft: GgufHeader
    params: ContextParams
    verbose: bool
    drafters: list[LateDrafter]
    _opened: ExitStack = field(default_factory=ExitStack)

    def arrive(self, models: LoadedModels, target: LlamaContext, gate: Gate) -> tuple[LoadedModels, LlamaContext]:
        """Try the file, then load it between the requests at ``gate``, and let the drafters draft with it.

        ``target``: a context of the target. Returns ``models`` with it, and the context of the first drafter.
        Raises :class:`ModelFileError`, :class:`DraftMismatchError`, :class:`BackendError`, and
        :class:`GapsClosedError` when the engine is closed.
        """

        def between_requests(_: float = 0.0) -> None:
            with gate.one_pass():
                pass

        between_requests()
        with Trial(models.target.path, self.draft.path, "model", models.params) as trial:
            gate.on_close(trial.kill)
            trial.begin()
            trial.loaded()
            trial.passed()

        drafter = LlamaModel(self.draft, self.params, verbose=self.verbose, progress=between_requests)
        self._opened.callback(drafter.close)
        models = with_drafter(models, drafter, self.params)
        with gate.one_pass():
            context = open_drafter(models, target)
            assert isinstance(context, LlamaContext)  # of a draft model
            self._opened.callback(context.close)
        for sequence, waiting in enumerate(self.drafters):
            waiting.arrive(model_drafter(models, context.neighbour(sequence) if sequence else context))
        return models, context

    def close(self) -> None:
        """Free the model and its contexts. May be called twice."""
        self._opened.close()
