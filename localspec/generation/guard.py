"""Bounds on the error of rows that a batch computes differently from single rows."""

from __future__ import annotations

from dataclasses import dataclass

from localspec.params import MAX_VERIFY_WIDTH


@dataclass(frozen=True)
class Guard:
    """Rows of batches of up to ``width`` tokens are exact; in wider ones logit differences change by up to ``noise``.

    ``greedy_noise`` bounds the differences between the largest logits, the only ones a greedy choice depends on. Both
    are in logits; 0 guards nothing. No batch has more than ``widest`` tokens.
    """

    width: int = 1
    noise: float = 0.0
    greedy_noise: float = 0.0
    widest: int = MAX_VERIFY_WIDTH

    def noise_of(self, batch: int, greedy: bool) -> float:
        """Return the noise, in logits, of the rows of a pass over ``batch`` tokens."""
        return (self.greedy_noise if greedy else self.noise) if batch > self.width else 0.0


NO_GUARD = Guard()
