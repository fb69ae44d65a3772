"""llguidance's matcher, with masks that are right after a rollback."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llguidance import LLMatcher


class Matcher:
    """A matcher of one answer; see :class:`llguidance.LLMatcher`.

    llguidance 1.8 and 1.9 keep the mask that was computed last, and take it for that of any state with as many lexemes
    and an equal state of the lexer, also on another path after a rollback. A mask computed where a rollback ends takes
    its place: all states that follow contain that state, so that an equal one has the same mask.
    """

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher
        self._consumed = self._masked = 0
        #: True if the mask that is kept is from a state that was left by a rollback.
        self._stale = False
        self.is_accepting = matcher.is_accepting
        self.compute_ff_tokens = matcher.compute_ff_tokens
        self.compute_ff_bytes = matcher.compute_ff_bytes
        self.is_error = matcher.is_error
        self.get_error = matcher.get_error

    def compute_bitmask(self) -> bytes:
        self._masked, self._stale = self._consumed, False
        return self._matcher.compute_bitmask()

    def consume_tokens(self, tokens: Sequence[int]) -> None:
        self._renew()
        self._matcher.consume_tokens(list(tokens))
        self._consumed += len(tokens)

    def try_consume_tokens(self, tokens: Sequence[int]) -> int:
        """Number of the first tokens that are legal, which are consumed."""
        self._renew()
        done = self._matcher.try_consume_tokens(list(tokens))
        self._consumed += done
        return done

    def rollback(self, count: int) -> None:
        self._matcher.rollback(count)
        self._consumed -= count
        self._stale |= self._masked > self._consumed

    def _renew(self) -> None:
        if self._stale:
            self.compute_bitmask()
