"""Log probabilities of the target's own distribution: softmax of its logits, before anything that sampling changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from localspec.errors import UsageError
from localspec.sampling import Row, largest, log_sum_exp


@dataclass(frozen=True)
class TokenLogprobs:
    """A generated ``token``, its natural-log probability, and those of the likeliest tokens, most likely first."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


def check_logprobs(count: object) -> int | None:
    """``count`` of likeliest tokens, at least 0, or None. Raises :class:`UsageError` for anything else."""
    if count is None:
        return None
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise UsageError(f"logprobs is {count!r:.40}; it must be a whole number of at least 0.")
    return count


def token_logprobs(row: Row, token: int, n: int) -> TokenLogprobs:
    """Log softmax of the logits ``row`` (n_vocab,) at ``token`` and at the ``n`` largest (ties: lower id first).

    Tokens that the model's file forbids have no probability and are not among them.
    """
    total = log_sum_exp(row)
    top: list[tuple[int, float]] = []
    if n > 0:
        ids = largest(row, min(n, len(row)))
        order = ids[np.argsort(-row[ids], kind="stable")][:n]
        top = [(int(i), float(row[i]) - total) for i in order if row[i] > -np.inf]
    return TokenLogprobs(token, float(row[token]) - total, tuple(top))
