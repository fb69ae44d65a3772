"""Interface of the draft controller, and a controller of fixed depth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from localspec.draft.base import Draft, Drafter, Prefix
from localspec.protocols import UNBOUNDED


@dataclass(frozen=True)
class Budget:
    """Limits of the next target pass, in tokens.

    The pass decodes ``pending`` tokens of the text that are not in the cache yet, and at most ``max_draft`` draft
    tokens. The answer may have ``tokens_left`` more tokens, those of this pass included. The cache holds ``cached``.
    It also has ``others`` rows of other sequences. ``seconds``: the time that n rows of this one add to what is decoded
    for all, None for a sequence alone. ``rollback``: draft tokens that can be taken back without a checkpoint.
    """

    pending: int
    max_draft: int
    tokens_left: int
    cached: int = 0
    others: int = 0
    seconds: Callable[[int], float] | None = None
    rollback: int = UNBOUNDED


#: Computes the target's probability of a token when called. The call takes time: 0.03 ms for 152k logits.
LazyConfidence = Callable[[], float]


class Control(Protocol):
    """Chooses the drafter and the draft length of each step."""

    def begin(self) -> None:
        """Start a new answer."""

    def draft(self, prefix: Prefix, drafters: Sequence[Drafter], budget: Budget) -> Draft:
        """Return the tokens to verify in the next pass: at most ``budget.max_draft``, possibly none."""

    def learn(
        self, draft: Draft, accepted: int, budget: Budget, target_s: float, confidence: LazyConfidence | None = None
    ) -> None:
        """Learn from a pass: the target accepted the first ``accepted`` tokens of ``draft``.

        ``target_s``: seconds of the pass. ``confidence``: the target's probability of the first token of the step;
        None if the row is not available.
        """


class FixedDepth:
    """Control without measurements: the first drafter that has a guess drafts ``depth`` tokens.

    ``only``: use the drafter of this name alone.
    """

    def __init__(self, depth: int = 8, only: str | None = None) -> None:
        self._depth, self._only = depth, only

    def begin(self) -> None:
        """Do nothing."""

    def draft(self, prefix: Prefix, drafters: Sequence[Drafter], budget: Budget) -> Draft:
        depth = min(self._depth, budget.max_draft)
        for drafter in drafters if depth > 0 else ():
            if self._only not in (None, drafter.name):
                continue
            guesses = list(islice(drafter.propose(prefix), depth))
            legal = legal_length(prefix, [guess.token for guess in guesses])
            if legal:
                return Draft.from_guesses(drafter.name, guesses[:legal])
        return Draft()

    def learn(
        self, draft: Draft, accepted: int, budget: Budget, target_s: float, confidence: LazyConfidence | None = None
    ) -> None:
        """Do nothing."""


def legal_length(prefix: Prefix, tokens: Sequence[int]) -> int:
    """Count the leading ``tokens`` that the grammar of the answer allows after ``prefix``; all without a grammar."""
    constraint = prefix.sampler.constraint
    return len(tokens) if constraint is None or not tokens else constraint.legal(prefix.tokens, tokens)
