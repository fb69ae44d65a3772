"""States of a structured answer, one after each of its tokens: legal tokens, forced tokens and a known ending."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from localspec.errors import InputError
from localspec.grammar.ending import Ending, adapt_ending, find_ending
from localspec.grammar.matcher import Matcher
from localspec.grammar.vocabulary import GrammarVocabulary, check
from localspec.protocols import Mask, common_length

#: Tokens left of the budget above which an answer without a known ending may continue.
_AMPLE_BUDGET = 512
#: Tokens between two searches for an ending where none is known and the budget is ample: a search may take 100 ms.
_SEARCH_INTERVAL_AMPLE = 32
#: The same with less of the budget left.
_SEARCH_INTERVAL = 4


@dataclass
class State:
    """State after some tokens of the answer. ``ending`` is None if none is known.

    ``base`` is the index of the first token that the grammar applies to, which may follow a thought. ``closing`` is the
    token that ends the thought. ``must_end``: the forced text does not fit the budget, so the ending must follow.
    """

    kind: Literal["thought", "grammar", "ended"]
    base: int
    ending: Ending | None
    must_end: bool = False
    closing: int | None = None
    #: Forced tokens that follow; None before they are computed.
    forced: Ending | None = None
    #: Tokens that the grammar allows; None before it is computed.
    mask: Mask | None = None
    #: Endings after a further token.
    endings: dict[int, Ending | None] = field(default_factory=dict)


class AnswerStates:
    """The states along one answer, computed when needed and rewound when a draft is rejected.

    ``shortest`` is the ending of the empty answer. ``thoughts`` maps tokens that may open a thought at the beginning to
    the tokens that close it.
    """

    def __init__(
        self,
        vocabulary: GrammarVocabulary,
        matcher: Matcher,
        first: State,
        shortest: Ending | None,
        budget: int,
        thoughts: Mapping[int, int],
    ) -> None:
        self._vocabulary, self._matcher, self._shortest = vocabulary, matcher, shortest
        self._budget, self._thoughts = budget, thoughts
        self._path, self._states = list[int](), [first]
        #: Tokens that the matcher has consumed.
        self._consumed: list[int] = []
        #: Mask of the end tokens.
        self.ends: Mask = np.zeros(vocabulary.n_tokens, np.bool_)
        self.ends[list(vocabulary.ends)] = True

    def __getitem__(self, at: int) -> State:
        return self._states[at]

    def index(self, tokens: Sequence[int]) -> int:
        """Index of the state after ``tokens`` of the answer."""
        same = common_length(self._path, tokens)
        if same < len(tokens):
            del self._path[same:], self._states[same + 1 :]
            for token in tokens[same:]:
                state = self._next(len(self._path), token)
                self._path.append(token)
                self._states.append(state)
        return len(tokens)

    def only_token(self, at: int) -> int | None:
        """The token that must follow state ``at``, None if there is a choice. An end token stands for all of them."""
        state = self._states[at]
        if state.kind == "ended":
            return self._vocabulary.ends[0]
        if state.must_end and state.ending is not None:
            return self.ending_token(at)
        if state.kind == "thought":
            return None
        if state.forced is None:
            state.forced = self._find_forced(at)
        if not state.forced or (at == 0 and self._thoughts):
            return None
        if state.forced[0] in self._vocabulary.ends or self.fits(at, state.forced[0]):
            return state.forced[0]
        state.must_end = True
        return self.ending_token(at)

    def ending_token(self, at: int) -> int:
        """First token of the known ending after state ``at``; an end token if it is empty or unknown."""
        ending = self._states[at].ending
        return ending[0] if ending else self._vocabulary.ends[0]

    def fits(self, at: int, token: int) -> bool:
        """True if the answer can end within the budget after ``token``, or has ample budget and no known ending."""
        if token in self._vocabulary.ends:
            return bool(self.mask(at)[token]) or self._states[at].ending == ()
        left = self._budget - at - 1
        ending = self._ending_after(at, token)
        if ending is None:
            known = self._states[at].ending
            return known is None or left > max(_AMPLE_BUDGET, len(known))
        return len(ending) <= left

    def mask(self, at: int) -> Mask:
        """Tokens that the grammar allows after state ``at``, without regard to the budget. Shape (n_vocab,)."""
        state = self._states[at]
        if state.mask is None:
            state.mask = self._find_mask(at)
        return state.mask

    def is_complete(self, at: int) -> bool:
        """True if the answer is complete at state ``at``."""
        kind = self._states[at].kind
        return kind == "ended" or (kind == "grammar" and self._move(at) and bool(self._matcher.is_accepting()))

    def _find_mask(self, at: int) -> Mask:
        state = self._states[at]
        if state.kind == "ended":
            return self.ends
        if state.kind == "thought":
            return ~self.ends
        if not self._move(at):
            return self.ends
        mask = self._vocabulary.mask(self._matcher.compute_bitmask())
        check(self._matcher)
        if not mask.any():
            raise InputError("this model's vocabulary has no token that the grammar allows next; check the grammar.")
        if at == 0:
            mask[list(self._thoughts)] = True
        return mask

    def _find_forced(self, at: int) -> Ending:
        """Tokens of the text that the grammar forces after state ``at``.

        llguidance omits the end of that text if a token could extend beyond it. If every legal token is a prefix of the
        text, none can, and the longest is taken.
        """
        if not self._move(at):
            return ()
        forced = self._matcher.compute_ff_tokens()
        if forced:
            return tuple(forced)
        mask = self.mask(at)
        if not (mask & ~self.ends).any():
            return (self._vocabulary.ends[0],)
        text = self._matcher.compute_ff_bytes()
        count = int(np.count_nonzero(mask))
        if count == 1 or count <= len(text):  # prefixes of the text have different lengths
            sizes = {int(token): len(self._vocabulary.pieces[int(token)]) for token in np.flatnonzero(mask)}
            if count == 1 or max(sizes.values()) <= len(text):
                return (max(sizes, key=lambda token: sizes[token]),)
        return ()

    def _next(self, at: int, token: int) -> State:
        """The state after ``token`` at state ``at``."""
        state = self._states[at]
        if state.kind == "ended" or token in self._vocabulary.ends:
            return State("ended", state.base, ())
        self.only_token(at)  # computes forced and must_end
        ending = self._ending_after(at, token)
        closing = self._opened_thought(at, token)
        if closing is not None or (state.kind == "thought" and token != state.closing):
            return State("thought", 0, ending, state.must_end, state.closing if closing is None else closing)
        if state.kind == "thought":
            return State("grammar", at + 1, ending, state.must_end)
        rest = state.forced[1:] if state.forced and state.forced[0] == token else ()
        return State("grammar", state.base, ending, state.must_end, forced=rest or None)

    def _opened_thought(self, at: int, token: int) -> int | None:
        """Closing token of the thought that ``token`` opens at state ``at``, None if it opens none."""
        return self._thoughts.get(token) if at == 0 else None

    def _ending_after(self, at: int, token: int) -> Ending | None:
        """A known ending after ``token`` at state ``at``."""
        state = self._states[at]
        if token not in state.endings:
            state.endings[token] = self._find_ending(at, token)
        return state.endings[token]

    def _find_ending(self, at: int, token: int) -> Ending | None:
        state = self._states[at]
        closing = self._opened_thought(at, token)
        if closing is not None:
            return None if self._shortest is None else (closing, *self._shortest)
        if state.ending and state.ending[0] == token:
            return state.ending[1:]
        if state.kind == "thought":
            return self._shortest if token == state.closing else state.ending
        left = self._budget - at - 1
        if state.ending is None and at % (_SEARCH_INTERVAL_AMPLE if left > _AMPLE_BUDGET else _SEARCH_INTERVAL):
            return None
        if not self._move(at) or self._matcher.try_consume_tokens([token]) != 1:
            return None
        try:
            found = None if state.ending is None else adapt_ending(self._matcher, self._vocabulary, state.ending)
            if found is None and (state.ending is None or left >= len(state.ending)):
                found = find_ending(self._matcher, self._vocabulary)
            return found
        finally:
            self._matcher.rollback(1)

    def _move(self, at: int) -> bool:
        """Bring the matcher to state ``at`` (of kind grammar); False if its tokens violate the grammar."""
        wanted = self._path[self._states[at].base : at]
        same = common_length(self._consumed, wanted)
        self._matcher.rollback(len(self._consumed) - same)
        del self._consumed[same:]
        rest = wanted[same:]
        done = self._matcher.try_consume_tokens(rest)
        self._consumed += rest[:done]
        check(self._matcher)
        return done == len(rest)
