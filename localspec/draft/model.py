"""A separate small model as drafter, with a cache of its own that is never decoded twice."""

from __future__ import annotations

from localspec.backends.base import Context, Rows
from localspec.config import DraftParams
from localspec.draft.base import Draft, KnownPrefix, Prefix, look_ahead

#: From this many missing tokens on, catching up is prompt work, done when the prompt is observed.
_CATCH_UP = 32


class ModelDrafter:
    """Drafts with ``context`` until a token's probability falls below ``params.p_min``.

    ``n_vocab`` is the part of the vocabulary that both models have: padded ones differ in size.
    """

    name = "model"
    default_max = 8

    def __init__(self, context: Context, params: DraftParams, batch: int, n_vocab: int) -> None:
        self._context, self._params, self._batch, self._n_vocab = context, params, batch, n_vocab
        self._known = KnownPrefix()

    @property
    def decode_s(self) -> float:
        return self._context.decode_s

    def propose(self, prefix: Prefix, limit: int) -> Draft:
        self._drop_what_differs(prefix)
        missing = prefix.tokens[len(self._context.tokens) :]
        if max(missing) >= self._n_vocab:
            return Draft()  # a token that only the target has
        row = self._feed(missing)[0]
        draft: list[int] = []
        while True:
            row = row[: self._n_vocab]
            token, sure = look_ahead(prefix, row, draft)
            if sure < self._params.p_min:
                break
            draft.append(token)
            if len(draft) == limit:
                break
            row = self._context.decode((token,), "last")[0]
        return Draft(tuple(draft), self.name)

    def observe(self, prefix: Prefix) -> None:
        self._drop_what_differs(prefix)
        missing = prefix.tokens[len(self._context.tokens) : -1]
        if len(missing) >= _CATCH_UP and max(missing) < self._n_vocab:
            self._feed(missing, last=False)

    def _drop_what_differs(self, prefix: Prefix) -> None:
        """Rewind to what is in the prefix; its last token is always decoded anew, for its row."""
        shared = self._known.shared(self._context.tokens, prefix)
        keep = min(shared, max(0, len(prefix.tokens) - 1))
        if keep < len(self._context.tokens):
            self._context.rewind(keep)

    def _feed(self, tokens: list[int], last: bool = True) -> Rows:
        while len(tokens) > self._batch:
            self._context.decode(tokens[: self._batch], "none")
            tokens = tokens[self._batch :]
        return self._context.decode(tokens, "last" if last else "none")

    def close(self) -> None:
        self._context.close()
