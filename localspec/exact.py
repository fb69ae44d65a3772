"""Whether rows of a batch equal the rows of single decodes, bit for bit: probed, and guarded where they do not.

The target's token at a position is a function of its logits row. So the text is the plain decode's exactly where a
row is the same whether it was computed alone or in a batch; where it is not, a choice that is closer than the rows
differ is made by a row of its own.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Guard:
    """Rows of batches of up to ``width`` tokens are exact; in wider ones logit differences move by up to ``noise``.

    ``noise`` 0 guards nothing.
    """

    width: int = 1
    noise: float = 0.0

    def noise_of(self, batch: int) -> float:
        """The noise of the rows of a batch of so many tokens."""
        return self.noise if batch > self.width else 0.0


NO_GUARD = Guard()
