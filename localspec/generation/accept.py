"""The acceptance rule, pure: which draft tokens the target would have chosen itself.

The target's token at each position is a function of its logits row (argmax, or Gumbel-max with shared noise), so the
rule is equality: accept while the draft says the same, then take the target's own token, *recovered* at the first
difference or *bonus* after the last draft token. The output is the plain decode's whatever was drafted. Terms as in
vLLM's ``rejection_sampler.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from localspec.generation.logprobs import TokenLogprobs, token_logprobs
from localspec.protocols import Rows
from localspec.sampling import Sampler


@dataclass(frozen=True)
class Accepted:
    """``tokens``: the ``count`` accepted draft tokens, then one recovered or bonus token.

    When the last accepted token ends the answer nothing follows it: then ``len(tokens) == count``; so too with
    ``near_tie``, which says that the next row is too close to call. ``logprobs`` go with the tokens, where asked for.
    """

    tokens: tuple[int, ...]
    count: int
    near_tie: bool = False
    logprobs: tuple[TokenLogprobs, ...] = ()


def accept(
    draft: Sequence[int],
    rows: Rows,
    sampler: Sampler,
    before: Sequence[int],
    is_end: Callable[[int], bool],
    *,
    noise: float = 0.0,
    logprobs: int | None = None,
) -> Accepted:
    """Compare ``draft`` (k tokens, which follow the tokens ``before``) with the target's ``rows`` (k + 1, n_vocab).

    With ``noise`` it stops at the first row whose choice could be another one if logits moved that far. ``logprobs``:
    report each token's log probability and those of so many of the likeliest.
    """
    tokens: list[int] = []
    reports: list[TokenLogprobs] = []
    for i, row in enumerate(rows):
        adjusted = sampler.adjust(row, before, tokens)
        if noise and not sampler.is_stable(adjusted, len(before) + i, noise):
            return Accepted(tuple(tokens), i, near_tie=True, logprobs=tuple(reports))
        token = sampler.choose(adjusted, len(before) + i)
        tokens.append(token)
        if logprobs is not None:
            reports.append(token_logprobs(row, token, logprobs))
        if i == len(draft) or token != draft[i]:
            return Accepted(tuple(tokens), i, logprobs=tuple(reports))
        if is_end(token):
            break
    return Accepted(tuple(tokens), len(tokens), logprobs=tuple(reports))
