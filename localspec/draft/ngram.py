"""N-gram lookup as drafter: what followed the last time the text ended like this.

The longest suffix of the text that occurred before is found with an online suffix automaton (Blumer et al. 1985),
amortised constant time a token; the draft is what followed its latest earlier occurrence. The longer the match, and the
more it went on alike, the surer the guess. In a copy the draft is what its source says next (:mod:`.copying`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from localspec.draft.base import Guess, KnownPrefix, Prefix
from localspec.draft.copying import Copy, alike
from localspec.params import MAX_DRAFT

#: How far up the suffix links the latest occurrence is kept current: constant work a token.
_REFRESH = 8
#: A match of fewer tokens that went on in several ways says less.
_MANY, _TORN = 16, 0.5


class Match(NamedTuple):
    """A suffix of ``length`` tokens that occurred before, lastly up to index ``end``, and went on in ``ways`` ways."""

    length: int
    end: int
    ways: int


class SuffixAutomaton:
    """All substrings of a growing token list, with the longest suffix that occurred before.

    States are numbered; state 0 is the root. For each: the longest substring's ``length``, its suffix ``link``,
    its transitions, and where an occurrence ``end``\\ s (index of its last token).
    """

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self._length, self._link, self._end = [0], [-1], [-1]
        self._next: list[dict[int, int]] = [{}]
        self._last = 0
        self.match_length = 0
        self.match_end = -1

    def append(self, token: int) -> None:
        """Add ``token``; afterwards ``match_length`` and ``match_end`` describe the longest earlier suffix."""
        at = len(self.tokens)
        self.tokens.append(token)
        new = self._state(self._length[self._last] + 1, at)
        p = self._last
        while p >= 0 and token not in self._next[p]:
            self._next[p][token] = new
            p = self._link[p]
        self._link[new] = 0 if p < 0 else self._split(p, token)
        self._last = new
        self._note_match(at)

    def match(self, ahead: Sequence[int] = ()) -> Match:
        """The longest suffix of the text and ``ahead`` that occurs in the text, with something behind it."""
        state, length, end = self._link[self._last], self.match_length, self.match_end
        for token in ahead:
            while state > 0 and token not in self._next[state]:
                state = self._link[state]
                length = self._length[state]
            state = self._next[state].get(token, 0)
            length, end = (length + 1, self._end[state]) if state else (0, -1)
        return Match(length, end, len(self._next[state])) if state > 0 else Match(0, -1, 0)

    def _state(self, length: int, end: int) -> int:
        self._length.append(length)
        self._link.append(0)
        self._end.append(end)
        self._next.append({})
        return len(self._length) - 1

    def _split(self, p: int, token: int) -> int:
        """The state of the suffix that ends in ``token`` after ``p``, cloned off when longer ones share it."""
        q = self._next[p][token]
        if self._length[q] == self._length[p] + 1:
            return q
        clone = self._state(self._length[p] + 1, self._end[q])
        self._next[clone] = dict(self._next[q])
        self._link[clone] = self._link[q]
        self._link[q] = clone
        while p >= 0 and self._next[p].get(token) == q:
            self._next[p][token] = clone
            p = self._link[p]
        return clone

    def _note_match(self, at: int) -> None:
        state = self._link[self._last]
        self.match_length, self.match_end = self._length[state], self._end[state]
        for _ in range(_REFRESH):
            if state <= 0:
                break
            self._end[state] = at
            state = self._link[state]


class NgramDrafter:
    """Proposes what followed the longest earlier match of at least ``min_match`` tokens, and so on."""

    name, free = "ngram", True
    decode_s = 0.0

    def __init__(self, min_match: int = 1) -> None:
        self._min_match = min_match
        self._automaton = SuffixAutomaton()
        self._known = KnownPrefix()
        self._growing = False
        self._copy = Copy(self._automaton.tokens)

    def propose(self, prefix: Prefix, ahead: Sequence[int] = ()) -> Iterator[Guess]:
        self.observe(prefix)
        match = self._automaton.match(ahead)
        copied = None if ahead else self._copy.guesses(match.length)
        return copied if copied is not None else self._occurrence(match, ahead)

    def _occurrence(self, match: Match, ahead: Sequence[int]) -> Iterator[Guess]:
        """What followed the ``match`` the last time."""
        length, end, sure = match.length, match.end, alike(match.length)
        if match.ways > 1 and length < _MANY:
            sure *= _TORN
        if length < self._min_match or end < 0:
            return
        text = self._automaton.tokens
        said = text[end + 1 : end + 1 + MAX_DRAFT]
        if len(said) < MAX_DRAFT:
            said += ahead  # where the match reaches the end of the text, the text goes on periodically
        for i in range(MAX_DRAFT):
            guess = Guess(said[i], alike(length + i) if i else sure)
            said.append(guess.token)
            yield guess

    def lag(self, prefix: Prefix, ahead: Sequence[int] = ()) -> int:
        return 0

    def observe(self, prefix: Prefix) -> None:
        shared = self._known.shared(self._automaton.tokens, prefix)
        if shared < len(self._automaton.tokens) or self._growing:
            self._automaton, shared = SuffixAutomaton(), 0
            self._copy = Copy(self._automaton.tokens)
        self._growing = True  # an interrupt in the middle of an append leaves an automaton that is none
        automaton = self._automaton
        for token in prefix.tokens[shared:]:
            automaton.append(token)
            self._copy.note(automaton.match_length, automaton.match_end)
        self._growing = False

    def close(self) -> None:
        """Nothing to free."""
