"""When exactness and costs of a pair are measured: before the first answer, or in the gaps between answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from localspec.control.controller import Controller
from localspec.control.costs import Costs
from localspec.errors import LocalspecError
from localspec.generation.pair import Setup
from localspec.generation.passes import PassShape
from localspec.loading.late import LateModel
from localspec.loading.options import MEASURED_AT_ONCE, LoadOptions
from localspec.probe.contexts import LoadedModels, PairContexts, open_probe_contexts
from localspec.probe.costs import CostMeasurement
from localspec.probe.exactness import Wish, proves
from localspec.probe.gaps import Gaps, Gate
from localspec.probe.pair import PairProbe


def measure(
    models: LoadedModels,
    contexts: PairContexts,
    options: LoadOptions,
    notices: Sequence[str],
    late: LateModel | None = None,
    *,
    last: bool,
) -> tuple[Setup, Gaps[Setup] | None] | None:
    """Decide how a pair is used, and measure what must be known for that; the rest is left to the gaps.

    ``require`` proves exactness here. ``late``: a draft model that is loaded in the gaps. Returns the decisions and
    the measurement in the gaps, if one is needed; None where the settings are not exact and not the ``last`` to try.
    Raises :class:`ModelFileError` where none are exact.
    """
    wish = Wish(options.exactness, options.draft.max, options.pass_width, models.kind != "none")
    if (wish.fixed or 1) > contexts.target.rollback + 1:
        wish = replace(wish, pass_width=1)
        notices = [*notices, "This model's recurrent state cannot lose padding again: its passes are not padded."]
    if wish.exactness == "require" and not _proves(models, wish, last=last):
        return None
    probe = PairProbe(contexts, wish)
    if not probe.complete and models.target.n_bytes <= MEASURED_AT_ONCE:
        with ExitStack() as stack:
            probe.run(open_probe_contexts(models, Gate(), stack))

    def in_gaps(gate: Gate, publish: Callable[[Setup], None]) -> None:
        whole, found, told = models, probe, notices
        if late is not None:
            try:
                whole, drafter = late.arrive(models, contexts.target, gate)
                found = PairProbe(PairContexts(contexts.target, drafter), wish)
            except LocalspecError as error:
                told = [*notices, f"{late.draft.path.name} does not draft: {error}"]
        step = partial(_setup, whole, found, options, told)
        if found.decided:
            gate.decided()
        made = open_probe_contexts(whole, gate, gate.opened)
        found.run(made, lambda: publish(step()), gate.decided, gate.wants_all)

    left = late is not None or not probe.complete
    return _setup(models, probe, options, notices), Gaps(in_gaps) if left else None


def _setup(models: LoadedModels, probe: PairProbe, options: LoadOptions, notices: Sequence[str]) -> Setup:
    """The decisions that follow from what ``probe`` knows."""
    verdict = probe.verdict
    found = Setup(
        verdict.exactness,
        verdict.passes,
        verdict.difference,
        options.draft,
        notices=(*notices, *([verdict.notice] if verdict.notice else [])),
        drafts=verdict.drafts,
        chunk=verdict.chunk,
        together=probe.together if models.params.sequences > 1 else 1,
    )
    if models.target.remote is not None:
        models.target.remote.cells_are_free = verdict.exactness == "exact" and verdict.drafts and verdict.chunk == 1
    if models.kind == "none":
        return found
    control = Controller(probe.costs(), verdict.passes.widest)
    return replace(found, control=control, tune=_tune(models, verdict.passes))


def _proves(models: LoadedModels, wish: Wish, *, last: bool) -> bool:
    """Prove exactness in contexts of its own; see :func:`localspec.probe.exactness.proves`."""
    with ExitStack() as stack:
        return proves(open_probe_contexts(models, Gate(), stack).target, wish, last=last)


def _tune(models: LoadedModels, passes: PassShape) -> Callable[[Callable[[float], None] | None], Costs]:
    """Measure the costs at length."""

    def tune(progress: Callable[[float], None] | None) -> Costs:
        with ExitStack() as stack:
            contexts = open_probe_contexts(models, Gate(), stack)
            costs = CostMeasurement(contexts.target, contexts.drafter, passes.widest).tune(progress)
            return costs.padded(passes.width)

    return tune
