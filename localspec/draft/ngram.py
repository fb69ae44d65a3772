"""N-gram lookup as drafter: what followed the last time the text ended like this.

The longest suffix of the text that occurred before is found with an online suffix automaton (Blumer et al. 1985),
amortised constant time a token; the draft is what followed its latest earlier occurrence.
"""

from __future__ import annotations

from localspec.draft.base import Draft, KnownPrefix, Prefix

#: How far up the suffix links the latest occurrence is kept current: constant work a token.
_REFRESH = 8


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

    def continuation(self, length: int) -> tuple[int, ...]:
        """``length`` tokens after the match; where it reaches the end of the text, the text goes on periodically."""
        found = self.tokens[self.match_end + 1 : self.match_end + 1 + length]
        while len(found) < length:
            found += found[: length - len(found)]
        return tuple(found)

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
    """Proposes the continuation of the longest earlier match, the longer the match the further."""

    name = "ngram"
    default_max = 8
    decode_s = 0.0

    def __init__(self, min_match: int = 3) -> None:
        self._min_match = min_match
        self._automaton = SuffixAutomaton()
        self._known = KnownPrefix()
        self._growing = False

    def propose(self, prefix: Prefix, limit: int) -> Draft:
        self.observe(prefix)
        automaton = self._automaton
        if automaton.match_length < self._min_match:
            return Draft()
        return Draft(automaton.continuation(min(limit, automaton.match_length)), self.name)

    def observe(self, prefix: Prefix) -> None:
        shared = self._known.shared(self._automaton.tokens, prefix)
        if shared < len(self._automaton.tokens) or self._growing:
            self._automaton, shared = SuffixAutomaton(), 0
        self._growing = True  # an interrupt in the middle of an append leaves an automaton that is none
        for token in prefix.tokens[shared:]:
            self._automaton.append(token)
        self._growing = False

    def close(self) -> None:
        """Nothing to free."""
