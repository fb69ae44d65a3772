"""Guard of near-ties: decides which rows of a batch are too close to trust."""

from __future__ import annotations

from dataclasses import dataclass

from localspec.params import MAX_VERIFY_WIDTH


@dataclass(frozen=True)
class Guard:
    """Rows of batches of up to ``width`` tokens are exact; in wider ones logit differences move by up to ``noise``.

    ``greedy_noise`` is how far those between the largest move, which is all that a greedy choice looks at. Where they
    are 0 nothing is guarded. No batch has more than ``widest`` tokens.
    """

    width: int = 1
    noise: float = 0.0
    greedy_noise: float = 0.0
    widest: int = MAX_VERIFY_WIDTH

    def noise_of(self, batch: int, greedy: bool) -> float:
        """The noise of the rows of a batch of so many tokens."""
        return (self.greedy_noise if greedy else self.noise) if batch > self.width else 0.0


NO_GUARD = Guard()
