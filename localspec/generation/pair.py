"""A loaded pair, and the decisions about it that hold for every generation. Frozen; decides nothing itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from localspec.chat.plain_contents import PromptVocabulary
from localspec.control.base import Control, FixedDepth
from localspec.control.costs import Costs
from localspec.draft.base import Drafter
from localspec.draft.history import HistoryDrafter
from localspec.generation.guard import NO_GUARD, Guard
from localspec.generation.prefill import Prefill
from localspec.params import DraftParams
from localspec.protocols import Context
from localspec.types import Exactness

#: Measures the costs of a pair at length; called with a function that reports the share done (0 to 1).
Tune = Callable[[Callable[[float], None] | None], Costs]


@dataclass(frozen=True)
class Pair:
    """A target and its drafters.

    ``history``: the one among the drafters to which finished texts are added. ``reads_hidden``: a drafter reads the
    target's hidden rows. ``prefill`` is the target's.
    """

    target: Context
    vocabulary: PromptVocabulary
    drafters: tuple[Drafter, ...] = ()
    history: HistoryDrafter | None = None
    reads_hidden: bool = False
    prefill: Prefill = field(default_factory=Prefill)


@dataclass(frozen=True)
class Setup:
    """Decisions about a pair, made when it is loaded.

    ``exactness`` and ``guard`` hold while drafting. ``tune`` is None where nothing can be measured.
    """

    exactness: Exactness = "off"
    guard: Guard = NO_GUARD
    draft: DraftParams = field(default_factory=DraftParams)
    control: Control = field(default_factory=FixedDepth)
    tune: Tune | None = None
    notices: tuple[str, ...] = ()

    def plain(self) -> Setup:
        """The same without drafting: every row comes from a pass that plain decoding makes."""
        return replace(self, exactness="exact", guard=Guard(widest=self.guard.widest))
