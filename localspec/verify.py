"""One target pass over what the cache lacks of the text (the last token, rarely more) and a draft."""

from __future__ import annotations

from localspec.backends.base import Context, Rows
from localspec.draft.base import Draft, Prefix


def verify(target: Context, prefix: Prefix, draft: Draft) -> Rows:
    """Logits (k + 1, n_vocab) for ``[last, *draft]``, k draft tokens: row *i* is what follows the first *i*."""
    missing = prefix.tokens[len(target.tokens) :]
    return target.decode((*missing, *draft.tokens), 1 + len(draft.tokens))
