"""Laws of n-gram lookup: what the automaton finds, and what is proposed from it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localspec.draft.ngram import NgramDrafter, SuffixAutomaton
from tests.helpers.support import drafted, prefix_of

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
def test_no_guess_below_the_shortest_match(tokens: list[int], limit: int, least: int) -> None:
    """From the shortest match on it proposes as many tokens as requested."""
    tokens = [*tokens, 0]
    draft = drafted(NgramDrafter(min_match=least), prefix_of(tokens), limit)
    length, _ = longest_earlier_suffix(tokens)
    assert len(draft.tokens) == limit or length < least
    assert draft.drafter == ("ngram" if draft.tokens else "none")
    assert all(0.0 < sure < 1.0 for sure in draft.confidences)


@given(texts, texts, st.integers(1, 12))
def test_goes_on_from_a_draft_as_from_text(tokens: list[int], ahead: list[int], limit: int) -> None:
    """The match counts the draft in; it is looked up in the text alone."""
    tokens, ahead = [*tokens, 0], [1, *ahead]
    match = automaton_of(tokens).match(ahead)
    whole = [*tokens, *ahead]
    suffixes = [n for n in range(1, len(whole)) if _occurs(tokens, whole[-n:])]
    assert match.length == max(suffixes, default=0)
    if match.length:
        assert tokens[match.end + 1 - match.length : match.end + 1] == whole[-match.length :]
    drafted(NgramDrafter(), prefix_of(tokens), limit, ahead)


def _occurs(tokens: list[int], part: list[int]) -> bool:
    return any(tokens[i : i + len(part)] == part for i in range(len(tokens) - len(part) + 1))


def test_proposes_what_followed_the_last_time() -> None:
    """The plain case; where the match reaches the end of the text, the text goes on periodically."""
    text = [1, 2, 3, 4, 5, 6, 7, 8, 2, 3, 4]
    assert drafted(NgramDrafter(), prefix_of(text), 2).tokens == (5, 6)
    assert drafted(NgramDrafter(), prefix_of(text), 9).tokens == (5, 6, 7, 8, 2, 3, 4, 5, 6)


def test_longer_matches_are_surer() -> None:
    """Of a text that goes on one way."""
    sure = [
        drafted(NgramDrafter(), prefix_of([*range(40), *range(n)]), 1).confidences[0] for n in (1, 2, 3, 5, 9, 20, 35)
    ]
    assert sure == sorted(sure)


def test_a_copy_that_broke_off_is_resumed_in_its_source() -> None:
    """One token was replaced: what followed it there is expected, not what followed such a token lately."""
    source = [10, 11, 12, 13, 14, 15, 16, 17, 18, 19]
    text = [*source, 50, 16, 99, *source[:5], 51, 16]
    assert drafted(NgramDrafter(), prefix_of(text), 3).tokens == (17, 18, 19)


def test_latest_of_two_occurrences_wins() -> None:
    """The proposal follows the more recent one."""
    text = [1, 2, 3, 7, 9, 1, 2, 3, 8, 9, 5, 1, 2, 3]
    assert drafted(NgramDrafter(), prefix_of(text), 1).tokens == (8,)


@given(texts, texts, st.integers(0, 60))
def test_any_history_gives_what_a_new_drafter_gives(first: list[int], second: list[int], keep: int) -> None:
    """A drafter that saw another text before, or observed token by token, proposes as one that saw only this."""
    drafter = NgramDrafter()
    old = prefix_of([*first, 1])
    for token in [2, 0, 1]:
        drafted(drafter, old, 4)
        old.tokens.append(token)
        drafter.observe(old)
    new = prefix_of([*first[:keep], *second, 0])
    assert drafted(drafter, new, 8) == drafted(NgramDrafter(), prefix_of(new.tokens), 8)


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
    """For every drafter."""
    drafter = NgramDrafter()
    drafter.close()
    drafter.close()
