"""A target's context beside that of prediction heads, brought along a text as in use."""

from __future__ import annotations

from itertools import islice

from localspec.draft.base import Prefix
from localspec.draft.heads import HeadDrafter
from localspec.llama.context import LlamaContext
from localspec.llama.heads import LlamaHeadContext
from tests.helpers.support import GREEDY, prefix_of


class HeadDrafting:
    """A target and its heads."""

    def __init__(self, target: LlamaContext, context: LlamaHeadContext) -> None:
        self.target, self.context = target, context
        self.drafter = HeadDrafter(context)

    def close(self) -> None:
        self.context.close()
        self.target.close()

    def guesses(self, text: list[int], count: int = 4, prefix: Prefix | None = None) -> list[int]:
        """Bring the target to all but the last token, at most 40 at once, and draft."""
        if len(self.target.tokens) >= len(text) or self.target.tokens != text[: len(self.target.tokens)]:
            self.target.rewind(0)
        while len(self.target.tokens) < len(text) - 1:
            at = len(self.target.tokens)
            self.target.decode(text[at : min(at + 40, len(text) - 1)], "none")
        return [guess.token for guess in islice(self.drafter.propose(prefix or prefix_of(text, GREEDY)), count)]
