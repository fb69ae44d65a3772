"""Lookup in earlier conversations as drafter: proposes the tokens that followed a text like this in a kept store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from localspec.draft.base import Guess, Prefix
from localspec.draft.copying import alike
from localspec.draft.ngram_store import LONGEST, NgramStore
from localspec.media.cells import text_tokens
from localspec.params import MAX_DRAFT


class HistoryDrafter:
    """Proposes from ``store``, to which finished texts are added by :meth:`keep`."""

    name, free = "history", True
    decode_s = 0.0

    def __init__(self, store: NgramStore) -> None:
        self._store = store

    def propose(self, prefix: Prefix, ahead: Sequence[int] = ()) -> Iterator[Guess]:
        suffix = [*prefix.text[-LONGEST:], *ahead][-LONGEST:]
        found = self._store.find(suffix, MAX_DRAFT)
        if found is None:
            return
        for i, token in enumerate(found.tokens):
            yield Guess(token, alike(found.length + i) * (1.0 if i else found.agree / found.count))

    def lag(self, prefix: Prefix, ahead: Sequence[int] = ()) -> int:
        return 0

    def observe(self, prefix: Prefix) -> None:
        """Do nothing: a text is kept when it is finished."""

    def keep(self, tokens: Sequence[int]) -> None:
        """Add a finished text and write the file. Raises :class:`InputError` where it cannot be written."""
        self._store.add(text_tokens(tokens))
        self._store.save()

    def close(self) -> None:
        """Do nothing: every text was written when it was finished."""
