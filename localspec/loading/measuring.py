"""When exactness and costs of a pair are measured: before the first answer, or in the gaps between answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from localspec.control.controller import Controller
from localspec.control.costs import Costs
from localspec.generation.pair import Setup
from localspec.loading.models import LoadOptions
from localspec.probe.contexts import LoadedModels, PairContexts, open_probe_contexts
from localspec.probe.costs import CostMeasurement
from localspec.probe.exactness import decide_exactness
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
    drafts = models.kind != "none"
    wish = options.exactness if models.target.can_rewind else "off"  # a probe rewinds
    if options.exactness == "require" and drafts and not _proves(models, options, last=last):
        return None
    probe = PairProbe(contexts, wish, options.draft.max, drafts=drafts)
    if not probe.complete and models.target.n_bytes <= MEASURED_AT_ONCE:
        with ExitStack() as stack:
            probe.run(open_probe_contexts(models, Gate(), stack))

    def setup() -> Setup:
        verdict = probe.verdict
        found = Setup(
            verdict.exactness,
            verdict.guard,
            options.draft,
            notices=(*notices, *([verdict.notice] if verdict.notice else [])),
            drafts=verdict.drafts,
            chunk=verdict.chunk,
        )
        if not drafts:
            return found
        control = Controller(probe.costs(), verdict.guard.widest)
        return replace(found, control=control, tune=_tune(models, verdict.guard.widest))

    def in_gaps(gate: Gate, publish: Callable[[Setup], None]) -> None:
        probe.run(open_probe_contexts(models, gate, gate.opened), lambda: publish(setup()))

    return setup(), None if probe.complete else Gaps(in_gaps)


def _proves(models: LoadedModels, options: LoadOptions, *, last: bool) -> bool:
    """Compare passes of all widths, if that was not done before; True if those that are drafted in are exact."""
    with ExitStack() as stack:
        context = open_probe_contexts(models, Gate(), stack).target
        return decide_exactness(context, options.exactness, options.draft.max, last=last) is not None


def _tune(models: LoadedModels, widest: int) -> Callable[[Callable[[float], None] | None], Costs]:
    """Measure the costs at length."""

    def tune(progress: Callable[[float], None] | None) -> Costs:
        with ExitStack() as stack:
            contexts = open_probe_contexts(models, Gate(), stack)
            return CostMeasurement(contexts.target, contexts.drafter, widest).tune(progress)

    return tune
