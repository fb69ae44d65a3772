"""The acceptance rule. Pure.

The target's token at a position is a function of its logits row (argmax, or Gumbel-max with shared noise). So the rule
is equality: accept draft tokens up to the first that differs from the target's token, then add that token, *recovered*
at the first difference or *bonus* after the last draft token. The output is identical to decoding without a drafter.
Terms as in vLLM's ``rejection_sampler.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from localspec.generation.logprobs import TokenLogprobs, token_logprobs
from localspec.protocols import Rows
from localspec.sampling import Sampler


class Accepted(NamedTuple):
    """``tokens``: the first ``accepted`` draft tokens, then one recovered or bonus token.

    The last is missing where an accepted token ends the answer. ``logprobs`` run parallel to the tokens, where
    requested.
    """

    tokens: tuple[int, ...]
    accepted: int
    logprobs: tuple[TokenLogprobs, ...] = ()


def accept(
    draft: Sequence[int],
    rows: Rows,
    sampler: Sampler,
    before: Sequence[int],
    is_end: Callable[[int], bool],
    logprobs: int | None = None,
) -> Accepted:
    """Compare ``draft`` (k tokens that follow ``before``) with the target's ``rows``, shape (k + 1, n_vocab).

    ``logprobs``: report each token's log probability and those of that many most likely tokens; None reports nothing.
    """
    tokens: list[int] = []
    reports: list[TokenLogprobs] = []
    for i, row in enumerate(rows):
        token = sampler.pick(row, before, tokens)
        tokens.append(token)
        if logprobs is not None:
            reports.append(token_logprobs(row, token, logprobs))
        if i == len(draft) or token != draft[i]:
            return Accepted(tuple(tokens), i, tuple(reports))
        if is_end(token):
            break
    return Accepted(tuple(tokens), len(tokens), tuple(reports))
