"""Gemma 4's MTP assistant as drafter: it reads the target's cache and hidden rows and has no cache of its own.

Every draft token is one pass at the same position, the length of the target's cache, as in the assistant's training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from localspec.draft.base import Guess, Prefix, guess_from_row
from localspec.protocols import MtpContext


class MtpDrafter:
    """Drafts with an assistant. It cannot continue another drafter's tokens: it needs the target's hidden row."""

    name, free = "mtp", False

    def __init__(self, context: MtpContext) -> None:
        self._context = context

    @property
    def decode_s(self) -> float:
        return self._context.decode_s

    def propose(self, prefix: Prefix, ahead: Sequence[int] = ()) -> Iterator[Guess]:
        hidden, token, position = prefix.hidden, prefix.tokens[-1], len(prefix.tokens) - 1
        draft: list[int] = []
        while hidden is not None and not ahead:
            guess = guess_from_row(prefix, self._context.step(token, position, hidden)[0], draft)
            hidden, token = self._context.hidden()[0].copy(), guess.token
            draft.append(token)
            yield guess

    def lag(self, prefix: Prefix, ahead: Sequence[int] = ()) -> int:
        return 1

    def observe(self, prefix: Prefix) -> None:
        """Do nothing: all that it needs comes with the prefix."""

    def close(self) -> None:
        self._context.close()
