"""A separate small model as drafter. Its own cache keeps every token that is still part of the text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from localspec.draft.base import Guess, KnownPrefix, Prefix, guess_from_row
from localspec.protocols import Context, Rows, common_length


class ModelDrafter:
    """Drafts with ``context``. Nothing is decoded before the first guess is requested, not even the prompt.

    ``n_vocab`` is the number of tokens that both models have: padded vocabularies differ in size.
    """

    name, free = "model", False

    def __init__(self, context: Context, batch: int, n_vocab: int) -> None:
        self._context, self._batch, self._n_vocab = context, batch, n_vocab
        self._known = KnownPrefix()

    @property
    def decode_s(self) -> float:
        return self._context.decode_s

    def propose(self, prefix: Prefix, ahead: Sequence[int] = ()) -> Iterator[Guess]:
        keep = self._kept(prefix, ahead)
        if keep < len(self._context.tokens):
            self._context.rewind(keep)
        keep = len(self._context.tokens)  # a rewind may take more
        pending = [*prefix.text[keep:], *ahead[max(0, keep - len(prefix.text)) :]]
        if max(pending) >= self._n_vocab:
            return  # a token that only the target has
        row = self._feed(pending)[0]
        self._context.mark(brief=True)
        draft = list(ahead)
        while True:
            guess = guess_from_row(prefix, row[: self._n_vocab], draft)
            yield guess
            draft.append(guess.token)
            row = self._context.decode((guess.token,), "last")[0]

    def lag(self, prefix: Prefix, ahead: Sequence[int] = ()) -> int:
        return len(prefix.text) + len(ahead) - self._context.reach(self._kept(prefix, ahead))

    def observe(self, prefix: Prefix) -> None:
        """Empty the cache if the text was emptied. Nothing is decoded before the first guess."""
        if not prefix.tokens:
            self._context.rewind(0)

    def _kept(self, prefix: Prefix, ahead: Sequence[int]) -> int:
        """Return the length of the cache that is kept: the last token is always decoded again, for its row."""
        own, n = self._context.tokens, len(prefix.text)
        shared = self._known.shared(own, prefix)
        if shared == n:
            shared += common_length(own[n:], list(ahead))
        return min(shared, n + len(ahead) - 1)

    def _feed(self, tokens: list[int]) -> Rows:
        while len(tokens) > self._batch:
            self._context.decode(tokens[: self._batch], "none")
            tokens = tokens[self._batch :]
        return self._context.decode(tokens, "last")

    def close(self) -> None:
        self._context.close()
