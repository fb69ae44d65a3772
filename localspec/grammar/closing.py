"""The nearest end of a structured answer: a short sequence of tokens after which it is complete.

The search is bounded and deterministic: it depends on the state of the matcher alone, and leaves it as it was. Text
that the grammar forces is taken in one go, and closing brackets and quotes are tried first.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import islice
from typing import TYPE_CHECKING

from localspec.grammar.vocabulary import GrammarVocabulary, check

if TYPE_CHECKING:
    from llguidance import LLMatcher

#: A way of more tokens than this, or with more choices, is not followed.
_MOST_TOKENS, _MOST_CHOICES = 2048, 200
#: States that a search looks at, and ways that it tries from each: for a shorter way, and for any at all.
_SHORTER, _ANY = (96, 6), (256, 64)
#: States with the same legal tokens are taken for the same one after this many of them.
_ALIKE = 2
#: How many tokens of a known way may have been said already.
_SAID = 4


def nearest_end(matcher: LLMatcher, vocabulary: GrammarVocabulary, limit: int) -> tuple[int, ...] | None:
    """Tokens to the nearest end that was found, None where there is none in sight.

    A way of more than ``limit`` tokens is given only after a search for a shorter one.
    """
    quick = _follow(matcher, vocabulary)
    if quick is not None and len(quick) <= limit:
        return quick
    return _search(matcher, vocabulary, limit, *(_ANY if quick is None else _SHORTER)) or quick


def adapted(matcher: LLMatcher, vocabulary: GrammarVocabulary, way: tuple[int, ...]) -> tuple[int, ...] | None:
    """``way``, known from one token before, as it is now: unchanged, partly said, or with a bracket more to close."""
    for said in range(min(_SAID, len(way)) + 1):
        if leads_out(matcher, way[said:]):
            return way[said:]
    for closer in vocabulary.closers:
        if leads_out(matcher, (closer, *way)):
            return (closer, *way)
    return None


def leads_out(matcher: LLMatcher, way: tuple[int, ...]) -> bool:
    """Whether the answer is complete after ``way``."""
    done = matcher.try_consume_tokens(list(way))
    try:
        return done == len(way) and bool(matcher.is_accepting())
    finally:
        matcher.rollback(done)


def _follow(matcher: LLMatcher, vocabulary: GrammarVocabulary) -> tuple[int, ...] | None:
    """Take the most promising token each time; where the legal tokens repeat, the next kind in turn."""
    path: list[int] = []
    met: dict[bytes, int] = {}
    try:
        while len(path) <= _MOST_TOKENS and sum(met.values()) <= _MOST_CHOICES:
            if matcher.is_accepting():
                return tuple(path)
            step = matcher.compute_ff_tokens()
            if not step:
                bits = matcher.compute_bitmask()
                check(matcher)
                turn = met.get(bits, 0)
                met[bits] = turn + 1
                ways = list(islice(vocabulary.ways(vocabulary.mask(bits)), turn + 1))
                step = [ways[turn % len(ways)]]
            matcher.consume_tokens(step)
            check(matcher)
            path += step
        return None
    finally:
        matcher.rollback(len(path))


def _search(
    matcher: LLMatcher, vocabulary: GrammarVocabulary, limit: int, states: int, most_ways: int
) -> tuple[int, ...] | None:
    """Shortest first, over a bounded number of ``states``."""
    heap: list[tuple[int, int, tuple[int, ...]]] = [(0, 0, ())]
    met: dict[bytes, int] = {}
    count = 0
    for _ in range(states):
        if not heap:
            return None
        _, _, path = heappop(heap)
        matcher.consume_tokens(list(path))
        try:
            if matcher.is_accepting():
                return path
            forced = matcher.compute_ff_tokens()
            if forced:
                steps = [tuple(forced)]
            else:
                bits = matcher.compute_bitmask()
                check(matcher)
                met[bits] = met.get(bits, 0) + 1
                ways = vocabulary.ways(vocabulary.mask(bits)) if met[bits] <= _ALIKE else iter(())
                steps = [(token,) for token in dict.fromkeys(islice(ways, most_ways))]
        finally:
            matcher.rollback(len(path))
        for step in steps:
            count += 1
            if len(path) + len(step) <= limit:
                heappush(heap, (len(path) + len(step), count, (*path, *step)))
    return None
