"""Laws of n-gram lookup: what the automaton finds, and what is proposed from it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import prefix_of

from localspec.draft.base import Draft
from localspec.draft.ngram import NgramDrafter, SuffixAutomaton

texts = st.integers(1, 4).flatmap(lambda letters: st.lists(st.integers(0, letters), max_size=60))


def automaton_of(tokens: list[int]) -> SuffixAutomaton:
    automaton = SuffixAutomaton()
    for token in tokens:
        automaton.append(token)
    return automaton


def longest_earlier_suffix(tokens: list[int]) -> tuple[int, list[int]]:
    """Length of the longest suffix that also ends earlier, and every earlier end of it."""
    n = len(tokens)
    for length in range(n - 1, 0, -1):
        ends = [end for end in range(length - 1, n - 1) if tokens[end - length + 1 : end + 1] == tokens[n - length :]]
        if ends:
            return length, ends
    return 0, []


@given(texts)
@settings(max_examples=300)
def test_match_is_the_longest_earlier_suffix(tokens: list[int]) -> None:
    """After every token, not only the last, the match is what brute force finds."""
    automaton = SuffixAutomaton()
    for i, token in enumerate(tokens):
        automaton.append(token)
        length, ends = longest_earlier_suffix(tokens[: i + 1])
        assert automaton.match_length == length
        assert not length or automaton.match_end in ends


@given(texts)
@settings(max_examples=300)
def test_match_is_the_latest_of_short_texts(tokens: list[int]) -> None:
    """While the chain of suffixes is short, the occurrence is the most recent one."""
    tokens = tokens[:9]
    automaton = automaton_of(tokens)
    _, ends = longest_earlier_suffix(tokens)
    assert not ends or automaton.match_end == ends[-1]


@pytest.mark.parametrize("period", [1, 2, 7])
@pytest.mark.parametrize("n", [10, 1000])
def test_match_in_repetition_is_one_period_back(period: int, n: int) -> None:
    """A loop of any length continues from its last turn."""
    automaton = automaton_of([i % period for i in range(n)])
    assert (automaton.match_length, automaton.match_end) == (n - period, n - 1 - period)


@given(texts, st.integers(1, 30))
def test_continuation_is_what_followed(tokens: list[int], length: int) -> None:
    """Token by token, it is what stood one distance back, in the text or in the continuation itself."""
    automaton = automaton_of(tokens)
    if not automaton.match_length:
        return
    found = automaton.continuation(length)
    distance = len(tokens) - 1 - automaton.match_end
    text = [*tokens, *found]
    assert len(found) == length
    assert all(text[i] == text[i - distance] for i in range(len(tokens), len(text)))


@given(texts)
def test_states_are_at_most_twice_the_tokens(tokens: list[int]) -> None:
    """The memory is linear in the text."""
    assert len(automaton_of(tokens)._length) <= max(2, 2 * len(tokens))


@pytest.mark.parametrize("shape", ["repeat", "distinct", "fibonacci"])
def test_work_is_linear(shape: str) -> None:
    """Ten times the text has about ten times the states and transitions, also for texts made to be bad."""
    fibonacci = [0]
    before = [1]
    while len(fibonacci) < 20_000:
        fibonacci, before = fibonacci + before, fibonacci
    text = {"repeat": [0] * 20_000, "distinct": list(range(20_000)), "fibonacci": fibonacci}[shape]
    sizes = []
    for n in (2000, 20_000):
        automaton = automaton_of(text[:n])
        sizes.append(len(automaton._length) + sum(len(edges) for edges in automaton._next))
    assert sizes[1] <= 11 * sizes[0]


def test_no_match_before_anything_repeats() -> None:
    """A text of different tokens has nothing to look up."""
    automaton = automaton_of([3, 1, 4, 15, 9])
    assert automaton.match_length == 0


# The drafter.


@given(texts, st.integers(1, 12), st.integers(1, 5))
def test_never_more_than_the_limit_or_the_match(tokens: list[int], limit: int, least: int) -> None:
    """A draft is as long as allowed, as the match supports, and none at all below the shortest match."""
    tokens = [*tokens, 0]
    drafter = NgramDrafter(min_match=least)
    draft = drafter.propose(prefix_of(tokens), limit)
    length, _ = longest_earlier_suffix(tokens)
    assert len(draft.tokens) == (min(limit, length) if length >= least else 0)
    assert draft.drafter == ("ngram" if draft.tokens else "none")


def test_proposes_what_followed_the_last_time() -> None:
    """The plain case."""
    text = [1, 2, 3, 4, 5, 6, 7, 8, 2, 3, 4]
    assert NgramDrafter().propose(prefix_of(text), 2) == Draft((5, 6), "ngram")
    assert NgramDrafter().propose(prefix_of(text), 9) == Draft((5, 6, 7), "ngram")


def test_latest_of_two_occurrences_wins() -> None:
    """What followed more recently is proposed."""
    text = [1, 2, 3, 7, 9, 1, 2, 3, 8, 9, 5, 1, 2, 3]
    assert NgramDrafter().propose(prefix_of(text), 1).tokens == (8,)


@given(texts, texts, st.integers(0, 60))
def test_any_history_gives_what_a_new_drafter_gives(first: list[int], second: list[int], keep: int) -> None:
    """A drafter that saw another text before, or observed token by token, proposes as one that saw only this."""
    drafter = NgramDrafter()
    old = prefix_of([*first, 1])
    for token in [2, 0, 1]:
        drafter.propose(old, 4)
        old.tokens.append(token)
        drafter.observe(old)
    new = prefix_of([*first[:keep], *second, 0])
    assert drafter.propose(new, 8) == NgramDrafter().propose(prefix_of(new.tokens), 8)


def test_text_that_only_grows_is_not_read_again() -> None:
    """The automaton of a conversation is kept while the next text begins with it."""
    drafter = NgramDrafter()
    drafter.observe(prefix_of([1, 2, 3]))
    automaton = drafter._automaton
    drafter.observe(prefix_of([1, 2, 3, 4]))
    assert drafter._automaton is automaton
    drafter.observe(prefix_of([1, 2, 4]))
    assert drafter._automaton.tokens == [1, 2, 4]


def test_closing_twice_is_fine() -> None:
    """As for every drafter."""
    drafter = NgramDrafter()
    drafter.close()
    drafter.close()
