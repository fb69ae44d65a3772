"""What a structured answer may say next: the protocol between a grammar and the sampler.

``tokens`` are the prompt and what was generated, a list that only grows while one answer is made; ``ahead`` are tokens
that are looked at without being settled (a draft). A constraint is made for one answer and counts from its first token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


class Constraint(Protocol):
    """Which tokens may follow. It depends on the tokens alone, so that it is the same with any drafter and none."""

    def allowed(self, tokens: Sequence[int], ahead: Sequence[int] = ()) -> Mask:
        """Shape (n_vocab,): whether each token may follow. Exactly one where :meth:`forced` has something to say."""

    def fits(self, tokens: Sequence[int], ahead: Sequence[int], token: int) -> bool:
        """Whether the answer can still be ended within its budget once the allowed ``token`` follows."""

    def way_out(self, tokens: Sequence[int], ahead: Sequence[int]) -> int:
        """A token that always fits: the next one on the way to the nearest end of the answer."""

    def forced(self, tokens: Sequence[int], ahead: Sequence[int] = ()) -> tuple[int, ...]:
        """The tokens that must follow, one legal token each; ``()`` where there is a choice."""

    def legal(self, tokens: Sequence[int], draft: Sequence[int]) -> int:
        """How many tokens at the beginning of ``draft`` the constraint allows."""
