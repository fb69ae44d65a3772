"""Log probabilities of the target: softmax of its logits, before sampling changes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from localspec.errors import UsageError
from localspec.sampling import Row, largest, log_sum_exp


@dataclass(frozen=True)
class TokenLogprobs:
    """Natural-log probability of a generated ``token``, and of the most likely tokens, in descending order."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


def check_logprobs(count: object) -> int | None:
    """Return ``count``, a whole number of at least 0 or None. Raises :class:`UsageError` for anything else."""
    if count is None:
        return None
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise UsageError(f"logprobs is {count!r:.40}; it must be a whole number of at least 0.")
    return count


def token_logprobs(row: Row, token: int, n: int) -> TokenLogprobs:
    """Log softmax of the logits ``row`` (n_vocab,) at ``token`` and at the ``n`` largest (ties: lower id first).

    Tokens that the model file forbids have probability 0 and are left out.
    """
    total = log_sum_exp(row)
    top: list[tuple[int, float]] = []
    if n > 0:
        ids = largest(row, min(n, len(row)))
        order = ids[np.argsort(-row[ids], kind="stable")][:n]
        top = [(int(i), float(row[i]) - total) for i in order if row[i] > -np.inf]
    return TokenLogprobs(token, float(row[token]) - total, tuple(top))
