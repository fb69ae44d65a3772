"""A grammar as a constraint on one answer: allowed tokens, forced tokens, and an ending within the budget.

Everything is a function of the tokens alone, so the text is the same with any drafter and with none:

* Where the grammar allows one text only, its tokenization by the model's own tokenizer is the one legal choice, except
  for a last token that could extend into free text.
* After each token an ending is known. A token after which no ending fits the rest of the budget is not chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from localspec.chat.thinking import ThinkingMarkers
from localspec.errors import InputError, PromptTooLongError
from localspec.grammar.ending import find_ending
from localspec.grammar.states import AnswerStates, State
from localspec.grammar.vocabulary import GrammarVocabulary
from localspec.protocols import Mask
from localspec.types import FinishReason


class GrammarConstraint:
    """A :class:`localspec.protocols.Constraint` for the answer that follows a prompt of ``start`` tokens.

    The budget is ``room``, the tokens left in the context, and ``max_tokens``. The grammar does not apply to the
    model's thinking, whose markers are ``thinking``; ``may_think``: the answer may begin with a thought.

    Raises :class:`InputError`, or :class:`PromptTooLongError` if ``room`` is the limit, when the shortest answer found
    has more tokens than the budget.
    """

    def __init__(
        self,
        vocabulary: GrammarVocabulary,
        grammar: str,
        *,
        start: int,
        room: int,
        max_tokens: int | None = None,
        thinking: ThinkingMarkers | None = None,
        may_think: bool = False,
    ) -> None:
        self._vocabulary, self._start = vocabulary, start
        thinking = thinking or ThinkingMarkers()
        budget = min(room, max_tokens or room)
        matcher = vocabulary.matcher(grammar)
        shortest = find_ending(matcher, vocabulary, budget)
        thought = () if thinking.pending is None else (thinking.pending,)
        first = State("thought" if thought else "grammar", 0, shortest, closing=thinking.pending)
        if shortest is not None:
            first.ending = (*thought, *shortest)
            if len(first.ending) > budget:
                least = find_ending(matcher, vocabulary, len(first.ending) - 1) or first.ending
                _raise_too_long(min(len(least) + len(thought), len(first.ending)), room, max_tokens)
        opening = thinking.closing if may_think and not thought else {}
        self._states = AnswerStates(vocabulary, matcher, first, shortest, budget, opening)
        #: Positions at which the budget changed the choice.
        self._cut: dict[int, bool] = {}

    def allowed(self, tokens: Sequence[int], ahead: Sequence[int] = ()) -> Mask:
        at = self._states.index([*tokens[self._start :], *ahead])
        only = self._states.only_token(at)
        self._cut[at] = self._states[at].must_end
        if only is None:
            return self._states.mask(at)
        if only in self._vocabulary.ends:
            return self._states.ends
        mask = np.zeros(self._vocabulary.n_tokens, np.bool_)
        mask[only] = True
        return mask

    def fits(self, tokens: Sequence[int], ahead: Sequence[int], token: int) -> bool:
        at = self._states.index([*tokens[self._start :], *ahead])
        fits = self._states.fits(at, token)
        if not fits:
            self._cut[at] = True
        return fits

    def ending_token(self, tokens: Sequence[int], ahead: Sequence[int]) -> int:
        return self._states.ending_token(self._states.index([*tokens[self._start :], *ahead]))

    def forced(self, tokens: Sequence[int], ahead: Sequence[int] = ()) -> tuple[int, ...]:
        run: list[int] = []
        while True:
            at = self._states.index([*tokens[self._start :], *ahead, *run])
            only = self._states.only_token(at)
            if only is None:
                return tuple(run)
            self._cut[at] = self._states[at].must_end
            run.append(only)
            if only in self._vocabulary.ends:
                return tuple(run)

    def legal(self, tokens: Sequence[int], draft: Sequence[int]) -> int:
        for n, token in enumerate(draft):
            at = self._states.index([*tokens[self._start :], *draft[:n]])
            only = self._states.only_token(at)
            ends = token in self._vocabulary.ends
            if only is None:
                legal = bool(self._states.mask(at)[token])
            else:
                legal = token == only or (ends and only in self._vocabulary.ends)
            if not legal:
                return n
            if ends:
                return n + 1
        return len(draft)

    def outcome(self, tokens: Sequence[int], reason: FinishReason) -> tuple[FinishReason, str | None]:
        """Finish reason and notice of the answer after ``tokens``; ``reason`` is that of the generation.

        ``length`` if the budget changed a choice, even if the answer is complete.
        """
        at = self._states.index(tokens[self._start :])
        if not self._states.is_complete(at):
            return reason, "The answer was cut off and is not complete: no short end of it was found for this grammar."
        if any(self._cut.get(i, False) for i in range(at + 1)):
            return "length", None
        only = self._states.only_token(at) if reason == "length" else None
        return ("stop" if only is not None and only in self._vocabulary.ends else reason), None


def _raise_too_long(needed: int, room: int, max_tokens: int | None) -> NoReturn:
    if max_tokens is not None and max_tokens <= room:
        raise InputError(
            f"max_tokens is {max_tokens}; the shortest structured answer that was found takes {needed} tokens. "
            f"Allow at least {needed}."
        )
    raise PromptTooLongError(
        f"the prompt leaves room for {room} tokens in the context, and the shortest structured answer that was found "
        f"takes {needed}; shorten it, or set a larger --ctx-size."
    )
