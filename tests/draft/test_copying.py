"""Laws of copying: after a change the place in the source is found again, and repeated replacements are proposed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from localspec.draft.copying import Change, alike
from localspec.draft.ngram import NgramDrafter
from localspec.params import MAX_DRAFT
from tests.helpers.support import drafted, prefix_of

texts = st.integers(1, 4).flatmap(lambda letters: st.lists(st.integers(0, letters), min_size=1, max_size=120))
#: Lines of five words, each after an indentation (7).
LINES = [7, 10, 11, 12, 13, 14, 7, 20, 21, 22, 23, 24, 7, 30, 31, 32, 33, 34, 7, 40, 41, 42, 43, 44]


def test_a_change_is_expected_again() -> None:
    """A copy that is indented in another way (3 in place of 7) is followed over the ends of lines."""
    copy = [99, 3, 10, 11, 12, 13, 14, 3, 20, 21, 22, 23]
    assert drafted(NgramDrafter(), prefix_of([*LINES, *copy]), 9).tokens == (24, 3, 30, 31, 32, 33, 34, 3, 40)


def test_a_change_is_expected_in_the_middle_of_it() -> None:
    """Two tokens stand for one: after the first of them the second comes."""
    copy = [99, 3, 4, 10, 11, 12, 13, 14, 3, 4, 20, 21, 22, 23, 24, 3]
    assert drafted(NgramDrafter(), prefix_of([*LINES, *copy]), 6).tokens == (4, 30, 31, 32, 33, 34)


def test_what_is_put_in_is_expected_again() -> None:
    """A token before each indentation."""
    copy = [99, 7, 10, 11, 12, 13, 14, 50, 7, 20, 21, 22, 23]
    assert drafted(NgramDrafter(), prefix_of([*LINES, *copy]), 4).tokens == (24, 50, 7, 30)


def test_what_is_left_out_is_left_out_again() -> None:
    """No indentation at all: once may be by chance, twice is a rule."""
    copy = [99, 10, 11, 12, 13, 14, 20, 21, 22, 23]
    assert drafted(NgramDrafter(), prefix_of([*LINES, *copy]), 3).tokens == (24, 7, 30)
    copy += [24, 30, 31, 32]
    assert drafted(NgramDrafter(), prefix_of([*LINES, *copy]), 4).tokens == (33, 34, 40, 41)


def test_a_change_that_does_not_come_again_is_given_up() -> None:
    """After it was made once and then not, the source is copied as it is."""
    copy = [99, 3, 10, 11, 12, 13, 14, 3, 20, 21, 22, 23, 24, 7, 30, 31, 32]
    assert drafted(NgramDrafter(), prefix_of([*LINES, *copy]), 4).tokens == (33, 34, 7, 40)


def test_a_change_that_came_again_outlasts_an_exception() -> None:
    """Learned in the second line, right in the third, wrong in the fourth: still expected in the fifth."""
    lines = [*LINES, 7, 50, 51, 52, 53, 54]
    copy = [99, 3, 10, 11, 12, 13, 14, 3, 20, 21, 22, 23, 24, 3, 30, 31, 32, 33, 34, 7, 40, 41, 42, 43, 44]
    assert drafted(NgramDrafter(), prefix_of([*lines, *copy]), 4).tokens == (3, 50, 51, 52)


def test_a_change_is_surer_the_more_often_it_came() -> None:
    """The confidence stays below 1."""
    sure = [Change([1], [2], right=n).confidence for n in range(5)]
    assert sure == sorted(sure)
    assert sure[-1] < 1.0
    assert Change([1], [2], wrong=1).confidence < 0.5 < sure[0]


def test_longer_matches_are_surer() -> None:
    """Of 1 token to any number."""
    found = [alike(length) for length in range(60)]
    assert found == sorted(found)
    assert found[0] == 0.0
    assert found[-1] < 1.0


@given(texts, texts)
@settings(max_examples=200)
def test_guesses_are_tokens_of_the_text(source: list[int], answer: list[int]) -> None:
    """A draft has at most MAX_DRAFT tokens, all from the text."""
    prefix, drafter = prefix_of(source), NgramDrafter()
    for token in answer:
        prefix.tokens.append(token)
        draft = drafted(drafter, prefix, MAX_DRAFT + 9)
        assert len(draft.tokens) <= MAX_DRAFT
        assert set(draft.tokens) <= set(prefix.tokens)


def test_a_source_whose_end_is_left_out_ends_the_draft() -> None:
    """The expected change leads beyond the text and the guesses: no guess follows, and no error."""
    tokens = [0, 0, 1, 1, 0, 0, 1, 1, 0, 1, 0, 1, 1]
    drafter, prefix = NgramDrafter(), prefix_of([])
    for token in tokens:
        prefix.tokens.append(token)
        drafter.observe(prefix)
        assert len(drafted(drafter, prefix, MAX_DRAFT).tokens) <= MAX_DRAFT
    assert set(drafted(drafter, prefix, MAX_DRAFT).tokens) <= {0, 1}
