"""What the loop asks of whoever is in control: a draft before each pass, and attention to what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from localspec.draft.base import Draft, Drafter, Prefix


@dataclass(frozen=True)
class Room:
    """What the next pass may hold: ``missing`` tokens that it decodes anyway, and at most ``most`` draft tokens.

    ``left``: tokens that the answer may still have, this pass's own among them. ``cached``: tokens in the cache.
    """

    missing: int
    most: int
    left: int
    cached: int = 0


#: A probability that takes some time to work out, and so is asked for.
Sure = Callable[[], float]


class Control(Protocol):
    """Picks the drafter and the depth of each step."""

    def begin(self) -> None:
        """A new answer begins."""

    def draft(self, prefix: Prefix, drafters: Sequence[Drafter], room: Room) -> Draft:
        """What to verify next: of at most ``room.most`` tokens, or none."""

    def learn(self, draft: Draft, accepted: int, room: Room, target_s: float, sure: Sure | None = None) -> None:
        """The first ``accepted`` tokens of ``draft`` were right.

        ``target_s``: seconds of the pass that verified it, or decoded ``room.missing`` tokens alone. ``sure``: how
        likely the first token of the step was to the target; None where that is not at hand.
        """


class FixedDepth:
    """Control that measures nothing: the first drafter with a guess drafts ``depth`` tokens.

    ``only``: the name of the one drafter that is asked.
    """

    def __init__(self, depth: int = 8, only: str | None = None) -> None:
        self._depth, self._only = depth, only

    def begin(self) -> None:
        """Nothing to begin."""

    def draft(self, prefix: Prefix, drafters: Sequence[Drafter], room: Room) -> Draft:
        most = min(self._depth, room.most)
        for drafter in drafters if most > 0 else ():
            if self._only not in (None, drafter.name):
                continue
            guesses = list(islice(drafter.propose(prefix), most))
            legal = legal_length(prefix, [guess.token for guess in guesses])
            if legal:
                return Draft.by(drafter.name, guesses[:legal])
        return Draft()

    def learn(self, draft: Draft, accepted: int, room: Room, target_s: float, sure: Sure | None = None) -> None:
        """Nothing: it does not change its mind."""


def legal_length(prefix: Prefix, tokens: Sequence[int]) -> int:
    """How many of ``tokens`` the grammar of the answer allows to follow, if it has one."""
    constraint = prefix.sampler.constraint
    return len(tokens) if constraint is None or not tokens else constraint.legal(prefix.tokens, tokens)
