"""The nearest end of a structured answer: a short sequence of tokens after which it is complete.

The search is bounded and deterministic: it depends on the state of the matcher alone, and leaves it as it was. Text
that the grammar forces is taken in one go, and closing brackets and quotes are tried first.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import combinations, islice
from typing import TYPE_CHECKING

from localspec.grammar.vocabulary import GrammarVocabulary, check

if TYPE_CHECKING:
    from llguidance import LLMatcher

#: A way of more tokens than this, or with more choices, is not followed.
_MOST_TOKENS, _MOST_CHOICES = 2048, 200
#: States with the same legal tokens are taken for the same one after so many of them: first, then with more patience.
_ALIKE = (1, 2, 4, 8)
#: Tokens tried on the way to any end with each patience; states, and ways from each, on the way to a shorter one.
_TRIES, _STATES, _WAYS = 250, 96, 6
#: How many tokens of a known way may have been said already.
_SAID = 4

Way = tuple[int, ...]


def nearest_end(matcher: LLMatcher, vocabulary: GrammarVocabulary, limit: int | None = None) -> Way | None:
    """Tokens to the nearest end that was found, None where there is none in sight.

    With a ``limit``, a way of more tokens is given only after a search for a shorter one.
    """
    found = _follow(matcher, vocabulary)
    if found is None:
        found = _wander(matcher, vocabulary)
    if limit is not None and found is not None and len(found) > limit:
        found = _search(matcher, vocabulary, limit) or found
    return found


def adapted(matcher: LLMatcher, vocabulary: GrammarVocabulary, way: Way) -> Way | None:
    """``way``, known from one token before, as it is now: unchanged, partly said, or with a bracket more to close."""
    for said in range(min(_SAID, len(way)) + 1):
        if leads_out(matcher, way[said:]):
            return way[said:]
    for closer in vocabulary.closers:
        if leads_out(matcher, (closer, *way)):
            return (closer, *way)
    return None


def leads_out(matcher: LLMatcher, way: Way) -> bool:
    """Whether the answer is complete after ``way``."""
    done = matcher.try_consume_tokens(list(way))
    try:
        return done == len(way) and bool(matcher.is_accepting())
    finally:
        matcher.rollback(done)


def _follow(matcher: LLMatcher, vocabulary: GrammarVocabulary) -> Way | None:
    """Take the most promising token each time; where the legal tokens repeat, the next kind in turn."""
    path: list[int] = []
    met: dict[bytes, list[int]] = {}
    choices = 0
    try:
        while len(path) <= _MOST_TOKENS and choices <= _MOST_CHOICES:
            if matcher.is_accepting():
                break
            step = matcher.compute_ff_tokens()
            if not step:
                bits = matcher.compute_bitmask()
                check(matcher)
                before = met.setdefault(bits, [])
                ways = list(islice(vocabulary.ways(vocabulary.mask(bits)), len(before) + 1))
                step = [ways[len(before) % len(ways)]]
                before.append(len(path))
                choices += 1
            matcher.consume_tokens(step)
            check(matcher)
            path += step
        else:
            return None
    finally:
        matcher.rollback(len(path))
    return _without_loops(matcher, tuple(path), list(met.values()))


def _without_loops(matcher: LLMatcher, way: Way, alike: list[list[int]]) -> Way:
    """``way`` without what lies between places that are ``alike``, where it leads out without that, too."""
    kept = list(range(len(way)))
    for places in alike:
        for i, j in combinations(places, 2):
            shorter = [at for at in kept if not i <= at < j]
            if len(shorter) < len(kept) and leads_out(matcher, tuple(way[at] for at in shorter)):
                kept = shorter
    return tuple(way[at] for at in kept)


def _wander(matcher: LLMatcher, vocabulary: GrammarVocabulary) -> Way | None:
    """Go where the legal tokens are new, and back where they are not."""
    for most in _ALIKE:
        tries, path = _TRIES, list[int]()
        steps, bits = _steps(matcher, vocabulary, None)
        met, trail = {bits: 1}, [(0, steps)]
        try:
            while trail and tries > 0:
                step = next(trail[-1][1], None)
                if step is None:
                    back = trail.pop()[0]
                    matcher.rollback(back)
                    del path[len(path) - back :]
                    continue
                tries -= 1
                matcher.consume_tokens(list(step))
                path += step
                if matcher.is_accepting():
                    return tuple(path)
                steps, bits = _steps(matcher, vocabulary, None)
                if met.get(bits, 0) >= most:
                    steps = iter(())
                met[bits] = met.get(bits, 0) + 1
                trail.append((len(step), steps))
        finally:
            matcher.rollback(len(path))
    return None


def _search(matcher: LLMatcher, vocabulary: GrammarVocabulary, limit: int) -> Way | None:
    """The shortest first, over a bounded number of states."""
    waiting: list[tuple[int, int, Way]] = [(0, 0, ())]
    met: dict[bytes, int] = {}
    count = 0
    for _ in range(_STATES):
        if not waiting:
            return None
        _, _, path = heappop(waiting)
        matcher.consume_tokens(list(path))
        try:
            if matcher.is_accepting():
                return path
            steps, bits = _steps(matcher, vocabulary, _WAYS)
            met[bits] = met.get(bits, 0) + 1
            for step in steps if met[bits] <= _ALIKE[1] else ():
                count += 1
                if len(path) + len(step) <= limit:
                    heappush(waiting, (len(path) + len(step), count, (*path, *step)))
        finally:
            matcher.rollback(len(path))
    return None


def _steps(matcher: LLMatcher, vocabulary: GrammarVocabulary, most: int | None) -> tuple[Iterator[Way], bytes]:
    """Ways to go on from here, and what tells this state apart: the legal tokens as bits, or the forced ones."""
    bits = matcher.compute_bitmask()
    check(matcher)
    forced = matcher.compute_ff_tokens()
    if forced:
        return iter([tuple(forced)]), repr(forced).encode()
    ways = dict.fromkeys(islice(vocabulary.ways(vocabulary.mask(bits)), most))
    return ((token,) for token in ways), bits
