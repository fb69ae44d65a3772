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

#: An answer that needs more tokens to end than this counts as one without an end in sight.
_MOST_TOKENS = 2048
#: States that the search for a shorter way looks at, and ways that it tries from each.
_STATES, _WAYS = 96, 6
#: States with the same legal tokens are taken for the same one after this many of them.
_ALIKE = 3


def nearest_end(matcher: LLMatcher, vocabulary: GrammarVocabulary, limit: int) -> tuple[int, ...] | None:
    """Tokens to the nearest end that was found, None where there is none in sight.

    A way of more than ``limit`` tokens is given only after a search for a shorter one.
    """
    quick = _follow(matcher, vocabulary)
    if quick is not None and len(quick) <= limit:
        return quick
    shorter = _search(matcher, vocabulary, limit)
    return quick if shorter is None else shorter


def _follow(matcher: LLMatcher, vocabulary: GrammarVocabulary) -> tuple[int, ...] | None:
    """Take the most promising token each time; where the legal tokens repeat, the next kind in turn."""
    path: list[int] = []
    met: dict[bytes, int] = {}
    try:
        while len(path) <= _MOST_TOKENS:
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


def _search(matcher: LLMatcher, vocabulary: GrammarVocabulary, limit: int) -> tuple[int, ...] | None:
    """Shortest first, over a bounded number of states."""
    heap: list[tuple[int, int, tuple[int, ...]]] = [(0, 0, ())]
    met: dict[bytes, int] = {}
    count = 0
    for _ in range(_STATES):
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
                steps = [(token,) for token in dict.fromkeys(islice(ways, _WAYS))]
        finally:
            matcher.rollback(len(path))
        for step in steps:
            count += 1
            if len(path) + len(step) <= limit:
                heappush(heap, (len(path) + len(step), count, (*path, *step)))
    return None
