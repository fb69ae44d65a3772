"""The acceptance rule, pure: which draft tokens the target would have chosen itself.

The target's token at each position is a function of its logits row (argmax, or Gumbel-max with shared noise), so the
rule is equality: accept while the draft says the same, then take the target's own token, *recovered* at the first
difference or *bonus* after the last draft token. The output is the plain decode's whatever was drafted. Terms as in
vLLM's ``rejection_sampler.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from localspec.backends.base import Rows
from localspec.sampling import Sampler


@dataclass(frozen=True)
class Accepted:
    """``tokens``: the ``count`` accepted draft tokens, then one recovered or bonus token.

    When the last accepted token ends the answer nothing follows it: then ``len(tokens) == count``.
    """

    tokens: tuple[int, ...]
    count: int


def accept(
    draft: Sequence[int], rows: Rows, sampler: Sampler, position: int, is_end: Callable[[int], bool]
) -> Accepted:
    """Compare ``draft`` (k tokens, the first at ``position``) with the target's ``rows`` (k + 1, n_vocab)."""
    tokens: list[int] = []
    for i, row in enumerate(rows):
        token = sampler.pick(row, position + i)
        tokens.append(token)
        if i == len(draft) or token != draft[i]:
            return Accepted(tuple(tokens), i)
        if is_end(token):
            return Accepted(tuple(tokens), i + 1)
    return Accepted(tuple(tokens), len(tokens))
