"""Gemma 4's MTP assistant as drafter: it reads the target's cache and hidden rows and keeps no cache of its own.

Every draft token is one pass at the same position, the length of the target's cache: the assistant was trained so.
"""

from __future__ import annotations

from localspec.backends.base import MtpContext
from localspec.config import DraftParams
from localspec.draft.base import Draft, Prefix, look_ahead


class MtpDrafter:
    """Drafts with an assistant until a token's probability falls below ``params.p_min``."""

    name = "mtp"
    default_max = 4

    def __init__(self, context: MtpContext, params: DraftParams) -> None:
        self._context, self._params = context, params

    @property
    def decode_s(self) -> float:
        return self._context.decode_s

    def propose(self, prefix: Prefix, limit: int) -> Draft:
        hidden, token, position = prefix.hidden, prefix.tokens[-1], len(prefix.tokens) - 1
        draft: list[int] = []
        while hidden is not None and len(draft) < limit:
            row = self._context.step(token, position, hidden)[0]
            token, sure = look_ahead(prefix, row, draft)
            if sure < self._params.p_min:
                break
            draft.append(token)
            hidden = self._context.hidden()[0]
        return Draft(tuple(draft), self.name)

    def observe(self, prefix: Prefix) -> None:
        """Nothing to note: what it needs comes with the prefix."""

    def close(self) -> None:
        self._context.close()
