"""Exactness and costs of a loaded pair: what is known of them, and the measurement of the rest."""

from __future__ import annotations

from collections.abc import Callable

from localspec.control.costs import Costs
from localspec.probe.contexts import PairContexts
from localspec.probe.costs import CostMeasurement
from localspec.probe.exactness import ExactnessVerdict, Known, Wish, known_invariance, verdict_so_far


class PairProbe:
    """The measurement of one pair. ``contexts`` are any of it; they name its files and settings."""

    def __init__(self, contexts: PairContexts, wish: Wish) -> None:
        self._contexts, self._wish = contexts, wish
        self._known = Known.recall(contexts.target)

    @property
    def verdict(self) -> ExactnessVerdict:
        """The verdict on what was compared so far."""
        return verdict_so_far(self._contexts.target, self._known, self._wish)

    @property
    def together(self) -> int:
        """Most rows of a pass of several sequences that are proved to be those of single-token passes.

        On a CPU a row attends alone over the cells of its sequence, so the widths that are exact for one sequence are
        exact for several; also a fixed width, unless attention over float keys takes rows of a sequence together. On a
        GPU that is not proved. With exactness ``off`` all rows may share a pass. 0: never together.
        """
        target, passes = self._contexts.target, self.verdict.passes
        if not target.model.can_rewind:  # a recurrent state cannot lose the padding of such a pass
            return 0
        if self._wish.exactness == "off":
            return passes.widest
        if target.model.placement.gpu or (passes.width > 1 and target.float_keys):
            return 1
        if passes.width > 1:
            return passes.width
        return known_invariance(target, self._known.rows, self._wish.widest).width

    def costs(self) -> Costs:
        """The costs as measured, else as estimated from what was measured so far; those of the passes in use."""
        return self._measurement(self._contexts).estimate().padded(self.verdict.passes.width)

    @property
    def decided(self) -> bool:
        """True if nothing is left to measure that drafting depends on."""
        return self._compared and (not self._wish.drafts or self._measurement(self._contexts).known() is not None)

    @property
    def complete(self) -> bool:
        """True if nothing is left to measure."""
        return self.decided and self._reuse

    def run(
        self,
        contexts: PairContexts,
        publish: Callable[[], None] = lambda: None,
        decided: Callable[[], None] = lambda: None,
        converses: Callable[[], bool] = lambda: False,
    ) -> None:
        """Measure the rest in ``contexts``; ``publish`` is called after each step that changes what is known.

        ``decided`` is called before what only later requests need. That comes first for an engine that ``converses``:
        reading a conversation again costs more than drafting by estimated costs.
        """
        if not self._compared:
            self._known.compare(contexts.target, self._wish, self._step(contexts, publish))
        if converses():
            self._compare_cells(contexts, publish)
        if self._wish.drafts:
            self._measurement(contexts).costs()
        publish()
        decided()
        self._compare_cells(contexts, publish)

    def _compare_cells(self, contexts: PairContexts, publish: Callable[[], None]) -> None:
        if not self._reuse:
            self._known.compare_cells(contexts.target, self._wish)
            publish()

    @property
    def _compared(self) -> bool:
        return self._wish.exactness == "off" or self._known.compared(self._contexts.target, self._wish)

    @property
    def _reuse(self) -> bool:
        return self._wish.exactness == "off" or self._known.reuse

    def _step(self, contexts: PairContexts, publish: Callable[[], None]) -> Callable[[], None]:
        """Remember the passes of a comparison, which are samples of the costs."""

        def step() -> None:
            self._measurement(contexts).remember_passes()
            publish()

        return step

    def _measurement(self, contexts: PairContexts) -> CostMeasurement:
        return CostMeasurement(contexts.target, contexts.drafter, self.verdict.passes.widest)
