"""A grammar followed along one answer: which tokens may come next, which must, and how to end within the budget.

Everything here is a function of the tokens alone, so that a text is the same with any drafter and none:

* Where the grammar leaves only one text, its tokenization by the model's own tokenizer is the one legal choice, up to
  where a token could run on into text that is free.
* At each token a way to end the answer is known. A token after which no way fits into what is left of the budget is
  not chosen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from localspec.errors import InputError
from localspec.grammar.closing import Way, adapted, nearest_end
from localspec.grammar.state import State, Thought, refuse
from localspec.grammar.vocabulary import GrammarVocabulary, check
from localspec.protocols import Mask, common_length
from localspec.types import FinishReason

#: With more tokens left than this an answer without an end in sight may go on.
_PLENTY = 512
#: Where no end is in sight it is looked for again at every so many tokens, with plenty of budget left and without.
_SELDOM, _OFTEN = 32, 4


class GrammarConstraint:
    """A :class:`localspec.protocols.Constraint` for the answer that follows ``start`` tokens of a prompt.

    Raises :class:`InputError`, or :class:`PromptTooLongError` where the context is what ``room`` is short of, when
    the shortest answer that was found has more tokens than the budget.
    """

    def __init__(
        self,
        vocabulary: GrammarVocabulary,
        grammar: str,
        *,
        start: int,
        room: int,
        max_tokens: int | None = None,
        thought: Thought | None = None,
    ) -> None:
        self._vocabulary, self._start = vocabulary, start
        self._thought = thought or Thought()
        self._budget = min(room, max_tokens or room)
        self._matcher, self._consumed = vocabulary.matcher(grammar), list[int]()
        self._ends = np.zeros(vocabulary.n_tokens, np.bool_)
        self._ends[list(vocabulary.ends)] = True
        self._shortest = nearest_end(self._matcher, vocabulary, self._budget)
        inside = self._thought.inside
        first = State("grammar", 0, self._shortest)
        if inside is not None:
            way = None if self._shortest is None else (inside, *self._shortest)
            first = State("thought", 0, way, closes=inside)
        if first.way is not None and len(first.way) > self._budget:
            least = nearest_end(self._matcher, vocabulary, len(first.way) - 1) or first.way
            refuse(min(len(least) + (inside is not None), len(first.way)), room, max_tokens)
        self._path, self._states = list[int](), [first]
        self._narrowed: dict[int, bool] = {}

    # The protocol.

    def allowed(self, tokens: Sequence[int], ahead: Sequence[int] = ()) -> Mask:
        at = self._at(tokens, ahead)
        only = self._only(at)
        self._narrowed[at] = self._states[at].committed
        if only is None:
            return self._mask(at)
        if only in self._vocabulary.ends:
            return self._ends
        mask = np.zeros(self._vocabulary.n_tokens, np.bool_)
        mask[only] = True
        return mask

    def fits(self, tokens: Sequence[int], ahead: Sequence[int], token: int) -> bool:
        at = self._at(tokens, ahead)
        fits = self._fits(at, token)
        if not fits:
            self._narrowed[at] = True
        return fits

    def ending_token(self, tokens: Sequence[int], ahead: Sequence[int]) -> int:
        state = self._states[self._at(tokens, ahead)]
        return state.way[0] if state.way else self._vocabulary.ends[0]

    def forced(self, tokens: Sequence[int], ahead: Sequence[int] = ()) -> tuple[int, ...]:
        run: list[int] = []
        while True:
            at = self._at(tokens, [*ahead, *run])
            only = self._only(at)
            if only is None:
                return tuple(run)
            self._narrowed[at] = self._states[at].committed
            run.append(only)
            if only in self._vocabulary.ends:
                return tuple(run)

    def legal(self, tokens: Sequence[int], draft: Sequence[int]) -> int:
        for n, token in enumerate(draft):
            at = self._at(tokens, draft[:n])
            only = self._only(at)
            ends = token in self._vocabulary.ends
            if not (self._mask(at)[token] if only is None else token == only or (ends and self._ends[only])):
                return n
            if ends:
                return n + 1
        return len(draft)

    # What came of it.

    def outcome(self, tokens: Sequence[int], reason: FinishReason) -> tuple[FinishReason, str | None]:
        """Why the answer ended after ``tokens``, given why generation did, and what there is to tell about it.

        ``length`` where the budget changed what it says, also when it is complete.
        """
        at = self._at(tokens, ())
        state = self._states[at]
        complete = state.kind == "ended" or (
            state.kind == "grammar" and self._move(at) and bool(self._matcher.is_accepting())
        )
        if not complete:
            return reason, "The answer was cut off and is not complete: no short end of it was found for this grammar."
        if any(self._narrowed.get(i, False) for i in range(at + 1)):
            return "length", None
        only = self._only(at) if reason == "length" else None
        return ("stop" if only is not None and only in self._vocabulary.ends else reason), None

    # Following the tokens.

    def _at(self, tokens: Sequence[int], ahead: Sequence[int]) -> int:
        """Bring the states up to date; the index of the one after all of ``tokens`` and ``ahead``."""
        wanted = [*tokens[self._start :], *ahead]
        same = common_length(self._path, wanted)
        if same < len(wanted):
            del self._path[same:], self._states[same + 1 :]
            for token in wanted[same:]:
                state = self._after(len(self._path), token)
                self._path.append(token)
                self._states.append(state)
        return len(wanted)

    def _after(self, at: int, token: int) -> State:
        """The state that follows state ``at`` with ``token``."""
        state = self._states[at]
        if state.kind == "ended" or token in self._vocabulary.ends:
            return State("ended", state.base, ())
        self._only(at)  # settles the plan
        way = self._way_after(at, token)
        closes = self._opened_by(at, token)
        if closes is not None or (state.kind == "thought" and token != state.closes):
            return State("thought", 0, way, state.committed, closes if closes is not None else state.closes)
        if state.kind == "thought":
            return State("grammar", at + 1, way, state.committed)
        rest = state.plan[1:] if state.plan and state.plan[0] == token else ()
        return State("grammar", state.base, way, state.committed, plan=rest or None)

    def _opened_by(self, at: int, token: int) -> int | None:
        """The token that closes the thought which ``token`` opens, if it opens one here."""
        return self._thought.markers.get(token) if at == 0 and self._offers() else None

    def _offers(self) -> bool:
        return self._thought.offered and self._thought.inside is None and bool(self._thought.markers)

    def _way_after(self, at: int, token: int) -> Way | None:
        """A way to end the answer once ``token`` follows state ``at``."""
        state = self._states[at]
        if token not in state.ways:
            state.ways[token] = self._find_way(at, token)
        return state.ways[token]

    def _find_way(self, at: int, token: int) -> Way | None:
        state = self._states[at]
        closes = self._opened_by(at, token)
        if closes is not None:
            return None if self._shortest is None else (closes, *self._shortest)
        if state.way and state.way[0] == token:
            return state.way[1:]
        if state.kind == "thought":
            return self._shortest if token == state.closes else state.way
        left = self._budget - at - 1
        if state.way is None and at % (_SELDOM if left > _PLENTY else _OFTEN):
            return None
        if not self._move(at) or self._matcher.try_consume_tokens([token]) != 1:
            return None
        try:
            found = None if state.way is None else adapted(self._matcher, self._vocabulary, state.way)
            if found is None and (state.way is None or left >= len(state.way)):
                found = nearest_end(self._matcher, self._vocabulary)
            return found
        finally:
            self._matcher.rollback(1)

    def _move(self, at: int) -> bool:
        """Bring the matcher to state ``at`` (of kind grammar); False where its tokens are against the grammar."""
        wanted = self._path[self._states[at].base : at]
        same = common_length(self._consumed, wanted)
        self._matcher.rollback(len(self._consumed) - same)
        del self._consumed[same:]
        rest = wanted[same:]
        done = self._matcher.try_consume_tokens(rest)
        self._consumed += rest[:done]
        check(self._matcher)
        return done == len(rest)

    # One state.

    def _fits(self, at: int, token: int) -> bool:
        if token in self._vocabulary.ends:
            return bool(self._mask(at)[token]) or self._states[at].way == ()
        left = self._budget - at - 1
        way = self._way_after(at, token)
        if way is None:
            known = self._states[at].way
            return known is None or left > max(_PLENTY, len(known))
        return len(way) <= left

    def _only(self, at: int) -> int | None:
        """The one token that may follow state ``at``, if there is only one (of several end tokens, the first)."""
        state = self._states[at]
        if state.kind == "ended":
            return self._vocabulary.ends[0]
        if state.committed and state.way is not None:
            return state.way[0] if state.way else self._vocabulary.ends[0]
        if state.kind == "thought":
            return None
        if state.plan is None:
            state.plan = self._plan(at)
        if not state.plan or (at == 0 and self._offers()):
            return None
        if state.plan[0] in self._vocabulary.ends or self._fits(at, state.plan[0]):
            return state.plan[0]
        state.committed = True
        return state.way[0] if state.way else self._vocabulary.ends[0]

    def _plan(self, at: int) -> Way:
        """Forced tokens after state ``at``: those of the text that the grammar leaves no choice about.

        llguidance holds back the end of that text where a token of it could run on. Where all that is legal is a part
        of the text, nothing can, and the longest is taken.
        """
        if not self._move(at):
            return ()
        forced = self._matcher.compute_ff_tokens()
        if forced:
            return tuple(forced)
        mask = self._mask(at)
        if not (mask & ~self._ends).any():
            return (self._vocabulary.ends[0],)
        text = self._matcher.compute_ff_bytes()
        count = int(np.count_nonzero(mask))
        if count == 1 or count <= len(text):  # parts of the text have different lengths
            sizes = {int(token): len(self._vocabulary.pieces[int(token)]) for token in np.flatnonzero(mask)}
            if count == 1 or max(sizes.values()) <= len(text):
                return (max(sizes, key=lambda token: sizes[token]),)
        return ()

    def _mask(self, at: int) -> Mask:
        """What the grammar allows after state ``at``, the budget aside."""
        state = self._states[at]
        if state.mask is None:
            state.mask = self._find_mask(at)
        return state.mask

    def _find_mask(self, at: int) -> Mask:
        state = self._states[at]
        if state.kind == "ended":
            return self._ends
        if state.kind == "thought":
            return ~self._ends
        if not self._move(at):
            return self._ends
        mask = self._vocabulary.mask(self._matcher.compute_bitmask())
        check(self._matcher)
        if not mask.any():
            raise InputError("this model's vocabulary has no token that the grammar allows next; check the grammar.")
        if at == 0 and self._offers():
            mask[list(self._thought.markers)] = True
        return mask
