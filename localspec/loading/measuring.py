"""When exactness and costs of a pair are measured: before the first answer, or in the gaps between answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from localspec.control.controller import Controller
from localspec.control.costs import Costs
from localspec.generation.pair import Setup
from localspec.generation.passes import PassShape
from localspec.loading.options import LoadOptions
from localspec.probe.contexts import LoadedModels, PairContexts, open_probe_contexts
from localspec.probe.costs import CostMeasurement
from localspec.probe.exactness import Wish, proves
from localspec.probe.gaps import Gaps, Gate
from localspec.probe.pair import PairProbe

#: Bytes of a target's weights up to which everything is measured at once: it takes a few tenths of a second.
MEASURED_AT_ONCE = 64 * 2**20


def measure(
    models: LoadedModels, contexts: PairContexts, options: LoadOptions, notices: Sequence[str], *, last: bool
) -> tuple[Setup, Gaps[Setup] | None] | None:
    """Decide how a pair is used, and measure what must be known for that; the rest is left to the gaps.

    ``require`` proves exactness here. Returns the decisions and the measurement in the gaps, if one is needed; None
    where the settings are not exact and not the ``last`` to try. Raises :class:`ModelFileError` where none are exact.
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

    def setup() -> Setup:
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
        if not wish.drafts:
            return found
        control = Controller(probe.costs(), verdict.passes.widest)
        return replace(found, control=control, tune=_tune(models, verdict.passes))

    def in_gaps(gate: Gate, publish: Callable[[Setup], None]) -> None:
        probe.run(open_probe_contexts(models, gate, gate.opened), lambda: publish(setup()))

    return setup(), None if probe.complete else Gaps(in_gaps)


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
