"""A loaded pair, and the decisions about it that hold for every generation. Frozen; decides nothing itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Protocol

from localspec.chat.plain_contents import PromptVocabulary
from localspec.control.base import Control, FixedDepth
from localspec.control.costs import Costs
from localspec.draft.base import Drafter
from localspec.draft.history import HistoryDrafter
from localspec.generation.passes import UNPADDED, PassShape
from localspec.generation.prefill import Prefill
from localspec.media.reader import MediaReader
from localspec.params import DraftParams
from localspec.protocols import Context
from localspec.types import Exactness


class Measurement(Protocol):
    """Measures a pair between the answers of its engine."""

    def request(self) -> AbstractContextManager[None]:
        """Keep the measurement waiting while a request is answered."""

    def news(self) -> Setup | None:
        """Return decisions that follow from what was measured since the last call; None if nothing was."""

    def wait(self, seconds: float | None = None, *, whole: bool = True) -> bool:
        """Wait for its end, at most ``seconds``; returns False if it has not ended. Raises its error.

        ``whole`` False: wait until drafting is decided.
        """

    def close(self) -> None:
        """End it. May be called twice."""


#: Measures the costs of a pair at length; called with a function that reports the share done (0 to 1).
Tune = Callable[[Callable[[float], None] | None], Costs]


@dataclass(frozen=True)
class Pair:
    """A target and its drafters.

    ``history``: the one among the drafters to which finished texts are added. ``reads_hidden``: a drafter reads the
    target's hidden rows. ``prefill`` is the target's. ``reader``: of pictures and sounds; None without a projector.
    """

    target: Context
    vocabulary: PromptVocabulary
    drafters: tuple[Drafter, ...] = ()
    history: HistoryDrafter | None = None
    reads_hidden: bool = False
    prefill: Prefill = field(default_factory=Prefill)
    reader: MediaReader | None = None


@dataclass(frozen=True)
class Setup:
    """Decisions about a pair, made when it is loaded and when more of it is measured.

    ``exactness`` holds while drafting, ``passes`` always. ``difference``: the largest one seen between logits of a
    draft's pass and those of plain decoding. ``drafts`` is False until passes are proved to be exact that are wide
    enough to draft in. ``chunk``: see :class:`Prefill`; None leaves it. ``tune`` is None where nothing can be measured.
    ``together``: most rows of a pass of several sequences that are proved to be those of passes of one, or that are
    wanted without a proof; 0 where sequences are never decoded together.
    """

    exactness: Exactness = "off"
    passes: PassShape = UNPADDED
    difference: float = 0.0
    draft: DraftParams = field(default_factory=DraftParams)
    control: Control = field(default_factory=FixedDepth)
    tune: Tune | None = None
    notices: tuple[str, ...] = ()
    drafts: bool = True
    chunk: int | None = None
    together: int = 1

    @property
    def most_rows(self) -> int:
        """Most rows of a pass of several sequences: those that are proved, or all where nothing is promised."""
        if self.together == 0:
            return 1
        promised = self.exactness == "exact" or self.passes.width > 1
        return self.together if promised else max(self.together, self.passes.widest)

    def plain(self) -> Setup:
        """The same without drafting: every row comes from a pass that plain decoding makes.

        With exactness ``off`` several sequences share passes that nobody has compared.
        """
        unproved = self.exactness == "off" and self.together > 1
        return self if unproved else replace(self, exactness="exact")
