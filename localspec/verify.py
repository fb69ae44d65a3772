"""One target pass over the last token and a draft."""

from __future__ import annotations

from localspec.backends.base import Context, Rows
from localspec.draft.base import Draft, Prefix


def verify(target: Context, prefix: Prefix, draft: Draft) -> Rows:
    """Logits (k + 1, n_vocab) for ``[last, *draft]``, k draft tokens: row *i* is what follows the first *i*."""
    return target.decode((prefix.tokens[-1], *draft.tokens))
