"""Find a short ending of a structured answer: tokens after which the answer is complete.

The search is bounded. It depends on the matcher's state alone and restores it. Text that the grammar forces is taken
whole, and closing brackets and quotes are tried first.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import combinations, islice

from localspec.grammar.matcher import Matcher
from localspec.grammar.vocabulary import GrammarVocabulary, check

#: Tokens of an ending at most: longer ones would fill a context of 2048.
_MAX_TOKENS = 2048
#: Tokens of the first search that are chosen, not forced.
_MAX_CHOICES = 200
#: The same of the last search, which tries every byte.
_MAX_CHOICES_OF_BYTES = 1000
#: Cuts in vain before no more are tried: 64 digits of one value allow 2,000, and none of them is right.
_MAX_CUTS = 50
#: Visits of states with equal legal tokens before they count as one state. Each round of the second search allows more.
_MAX_VISITS = (1, 2, 4, 8)
#: Tokens that one round of the second search consumes.
_MAX_STEPS = 250
#: States that the search for a shorter ending expands.
_MAX_STATES = 96
#: Tokens that the search for a shorter ending tries from each state.
_MAX_BRANCHES = 6
#: Tokens at the beginning of a known ending that may already be part of the answer.
_MAX_CONSUMED = 4

Ending = tuple[int, ...]


def find_ending(matcher: Matcher, vocabulary: GrammarVocabulary, limit: int | None = None) -> Ending | None:
    """A short ending from the matcher's state, None if none was found.

    If it has more than ``limit`` tokens, a shorter one is searched for.
    """
    found = _find_by_choice(matcher, vocabulary)
    if found is None:
        found = _find_by_backtracking(matcher, vocabulary)
    if found is None:  # a text may have to end with a certain letter, or to contain it
        found = _find_by_choice(matcher, vocabulary, _MAX_CHOICES_OF_BYTES, every_byte=True)
    if limit is not None and found is not None and len(found) > limit:
        found = _find_shorter(matcher, vocabulary, limit) or found
    return found


def adapt_ending(matcher: Matcher, vocabulary: GrammarVocabulary, ending: Ending) -> Ending | None:
    """The ``ending`` known one token before, adapted to the new state; None if it does not complete the answer.

    It is unchanged, lacks its first tokens, or has one more closing token in front.
    """
    for n in range(min(_MAX_CONSUMED, len(ending)) + 1):
        if is_ending(matcher, ending[n:]):
            return ending[n:]
    for closer in vocabulary.closers:
        if is_ending(matcher, (closer, *ending)):
            return (closer, *ending)
    return None


def is_ending(matcher: Matcher, tokens: Ending) -> bool:
    """True if the answer is complete after ``tokens``."""
    consumed = matcher.try_consume_tokens(tokens)
    try:
        return consumed == len(tokens) and bool(matcher.is_accepting())
    finally:
        matcher.rollback(consumed)


def _find_by_choice(
    matcher: Matcher, vocabulary: GrammarVocabulary, most: int = _MAX_CHOICES, *, every_byte: bool = False
) -> Ending | None:
    """Take the most promising token at each state; where legal tokens repeat, the next most promising one."""
    path: list[int] = []
    positions: dict[bytes, list[int]] = {}
    choices = 0
    try:
        while len(path) <= _MAX_TOKENS and choices <= most:
            if matcher.is_accepting():
                break
            step = matcher.compute_ff_tokens()
            if not step:
                bits = matcher.compute_bitmask()
                check(matcher)
                before = positions.setdefault(bits, [])
                promising = vocabulary.promising(vocabulary.mask(bits), every_byte=every_byte)
                tokens = list(islice(promising, len(before) + 1))
                closes = every_byte and vocabulary.pieces[tokens[0]].startswith(b'"')
                step = [tokens[0 if closes else len(before) % len(tokens)]]
                before.append(len(path))
                choices += 1
            matcher.consume_tokens(step)
            check(matcher)
            path += step
        else:
            return None
    finally:
        matcher.rollback(len(path))
    return _without_loops(matcher, tuple(path), list(positions.values()))


def _without_loops(matcher: Matcher, ending: Ending, groups: list[list[int]]) -> Ending:
    """``ending`` without the tokens between two positions of one group, where it stays an ending."""
    kept = list(range(len(ending)))
    for positions in groups:
        failed = 0
        for i, j in sorted(combinations(positions, 2), key=lambda pair: pair[1] - pair[0]):
            shorter = [at for at in kept if not i <= at < j]
            if len(shorter) == len(kept):
                continue
            if is_ending(matcher, tuple(ending[at] for at in shorter)):
                kept = shorter
            elif (failed := failed + 1) == _MAX_CUTS:
                break
    return tuple(ending[at] for at in kept)


def _find_by_backtracking(matcher: Matcher, vocabulary: GrammarVocabulary) -> Ending | None:
    """Depth-first search that goes back from states that were visited too often."""
    for max_visits in _MAX_VISITS:
        left, path = _MAX_STEPS, list[int]()
        steps, state = _steps(matcher, vocabulary, None)
        visits, stack = {state: 1}, [(0, steps)]
        try:
            while stack and left > 0:
                step = next(stack[-1][1], None)
                if step is None:
                    n = stack.pop()[0]
                    matcher.rollback(n)
                    del path[len(path) - n :]
                    continue
                left -= 1
                matcher.consume_tokens(step)
                path += step
                if matcher.is_accepting():
                    return tuple(path)
                steps, state = _steps(matcher, vocabulary, None)
                if visits.get(state, 0) >= max_visits:
                    steps = iter(())
                visits[state] = visits.get(state, 0) + 1
                stack.append((len(step), steps))
        finally:
            matcher.rollback(len(path))
    return None


def _find_shorter(matcher: Matcher, vocabulary: GrammarVocabulary, limit: int) -> Ending | None:
    """Search for an ending of at most ``limit`` tokens, shortest paths first."""
    queue: list[tuple[int, int, Ending]] = [(0, 0, ())]
    visits: dict[bytes, int] = {}
    number = 0
    for _ in range(_MAX_STATES):
        if not queue:
            return None
        _, _, path = heappop(queue)
        matcher.consume_tokens(path)
        try:
            if matcher.is_accepting():
                return path
            steps, state = _steps(matcher, vocabulary, _MAX_BRANCHES)
            visits[state] = visits.get(state, 0) + 1
            for step in steps if visits[state] <= _MAX_VISITS[1] else ():
                number += 1
                if len(path) + len(step) <= limit:
                    heappush(queue, (len(path) + len(step), number, (*path, *step)))
        finally:
            matcher.rollback(len(path))
    return None


def _steps(matcher: Matcher, vocabulary: GrammarVocabulary, most: int | None) -> tuple[Iterator[Ending], bytes]:
    """At most ``most`` continuations, and bytes that identify the state: the legal tokens as bits, or forced tokens."""
    bits = matcher.compute_bitmask()
    check(matcher)
    forced = matcher.compute_ff_tokens()
    if forced:
        return iter([tuple(forced)]), repr(forced).encode()
    tokens = dict.fromkeys(islice(vocabulary.promising(vocabulary.mask(bits)), most))
    return ((token,) for token in tokens), bits
