"""Exactness and costs of a loaded pair: what is known of them, and the measurement of the rest."""

from __future__ import annotations

from collections.abc import Callable

from localspec.control.costs import Costs
from localspec.params import PROBE_WIDTH, ExactnessMode
from localspec.probe.batch_invariance import Findings
from localspec.probe.contexts import PairContexts
from localspec.probe.costs import CostMeasurement
from localspec.probe.exactness import (
    OFF,
    PROBE_CTX,
    ExactnessVerdict,
    continue_probe,
    known_invariance,
    recall_findings,
    verdict_so_far,
    widest_pass,
)


class PairProbe:
    """The measurement of one pair. ``contexts`` are any of it; they name its files and settings.

    ``drafts``: the pair has a drafter, also one that does not decode. ``draft_max``: the user's longest draft.
    """

    def __init__(
        self,
        contexts: PairContexts,
        wish: ExactnessMode,
        draft_max: int | None,
        *,
        drafts: bool,
    ) -> None:
        self._contexts, self._drafts = contexts, drafts
        self._wish, self._draft_max = wish, draft_max
        self._findings = recall_findings(contexts.target) or Findings()

    @property
    def verdict(self) -> ExactnessVerdict:
        """The verdict on what was compared so far."""
        if self._wish == "off":
            return OFF if self._drafts else ExactnessVerdict("exact")
        target = self._contexts.target
        if not self._drafts:
            return ExactnessVerdict("exact", chunk=known_invariance(target, self._findings, PROBE_WIDTH).chunk)
        return verdict_so_far(target, self._findings, self._wish, self._draft_max)

    def costs(self) -> Costs:
        """The costs as measured, else as estimated from what was measured so far."""
        return self._measurement(self._contexts).estimate()

    @property
    def complete(self) -> bool:
        """True if nothing is left to measure."""
        return self._compared and (not self._drafts or self._measurement(self._contexts).known() is not None)

    def run(self, contexts: PairContexts, publish: Callable[[], None] = lambda: None) -> None:
        """Measure the rest in ``contexts``; ``publish`` is called after each step that changes what is known."""
        if not self._compared:
            continue_probe(contexts.target, self._findings, widest_pass(self._draft_max), self._step(contexts, publish))
        if self._drafts:
            self._measurement(contexts).costs()
        publish()

    @property
    def _compared(self) -> bool:
        return self._wish == "off" or self._findings.complete(widest_pass(self._draft_max), PROBE_CTX)

    def _step(self, contexts: PairContexts, publish: Callable[[], None]) -> Callable[[], None]:
        """Remember the passes of a comparison, which are samples of the costs."""

        def step() -> None:
            self._measurement(contexts).remember_passes()
            publish()

        return step

    def _measurement(self, contexts: PairContexts) -> CostMeasurement:
        return CostMeasurement(contexts.target, contexts.drafter, self.verdict.guard.widest)
