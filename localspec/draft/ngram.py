"""N-gram lookup as drafter: proposes the tokens that followed the last time the text ended like this.

The longest suffix of the text that occurred before is found with an online suffix automaton (Blumer et al. 1985), in
amortised constant time a token. The draft is the continuation of its latest earlier occurrence. The confidence grows
with the length of the match. In a copy the draft is the continuation of its source (:mod:`.copying`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from localspec.draft.base import Guess, KnownPrefix, Prefix
from localspec.draft.copying import Copy, alike
from localspec.params import MAX_DRAFT

#: Suffixes of the text, longest first, whose latest occurrence is kept current: constant work a token.
REFRESH = 8


class Match(NamedTuple):
    """A suffix of ``length`` tokens that occurred before, most recently up to index ``end``.

    ``ways``: how many different tokens followed its occurrences.
    """

    length: int
    end: int
    ways: int


class SuffixAutomaton:
    """All substrings of a growing token list, with the longest suffix that occurred before.

    States are numbered; state 0 is the root. Each has the ``length`` of its longest substring, its suffix ``link``, its
    transitions, and the ``end`` of an occurrence (index of its last token).
    """

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self._length, self._link, self._end = [0], [-1], [-1]
        self._next: list[dict[int, int]] = [{}]
        self._last = 0
        self.match_length = 0
        self.match_end = -1

    def append(self, token: int) -> None:
        """Add ``token``, and set ``match_length`` and ``match_end`` to the longest suffix that occurred before."""
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
        """Return the longest suffix of the text and ``ahead`` that occurs in the text before its last token."""
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
        """Return the state of the suffix that ends in ``token`` after ``p``, cloned if longer ones share it."""
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
        for _ in range(REFRESH):
            if state <= 0:
                break
            self._end[state] = at
            state = self._link[state]


class NgramDrafter:
    """Proposes the continuation of the longest earlier match of at least ``min_match`` tokens."""

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
        """Yield the tokens that followed the latest occurrence of ``match``."""
        length, end = match.length, match.end
        if length < self._min_match or end < 0:
            return
        followed = self._automaton.tokens[end + 1 : end + 1 + MAX_DRAFT]
        if len(followed) < MAX_DRAFT:
            followed += ahead  # where the match reaches the end of the text, the text continues periodically
        for i in range(MAX_DRAFT):
            ambiguous = i == 0 and match.ways > 1
            guess = Guess(followed[i], alike(length + i) / (2 if ambiguous else 1))
            followed.append(guess.token)
            yield guess

    def lag(self, prefix: Prefix, ahead: Sequence[int] = ()) -> int:
        return 0

    def observe(self, prefix: Prefix) -> None:
        shared = self._known.shared(self._automaton.tokens, prefix)
        if shared < len(self._automaton.tokens) or self._growing:
            self._automaton, shared = SuffixAutomaton(), 0
            self._copy = Copy(self._automaton.tokens)
        self._growing = True  # an interrupt in the middle of an append leaves a broken automaton
        automaton = self._automaton
        for token in prefix.text[shared:]:
            automaton.append(token)
            self._copy.note(automaton.match_length, automaton.match_end)
        self._growing = False

    def close(self) -> None:
        """Free nothing."""
