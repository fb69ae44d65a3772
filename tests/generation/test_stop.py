"""Laws of stop strings in a stream: the text comes out as if it had been searched character by character."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from localspec.generation.stop import StopStrings

letters = st.text("ab", max_size=30)
stop_lists = st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3)


@st.composite
def split(draw: st.DrawFn, texts: st.SearchStrategy[str] = letters) -> list[str]:
    """A text in pieces, some of them empty."""
    text = draw(texts)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def first_stop(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """Brute force: the text before the stop string that is complete first, the longest of those."""
    for end in range(1, len(text) + 1):
        starts = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if starts:
            return text[: min(starts)], True
    return text, False


def stream(pieces: Sequence[str], stops: Sequence[str]) -> tuple[str, bool]:
    finder, shown = StopStrings(stops), ""
    for piece in pieces:
        text, stopped = finder.add(piece)
        shown += text
        if stopped:
            return shown + finder.flush(), True
    return shown + finder.flush(), False


def inside(inner: str, outer: str) -> bool:
    """True if ``inner`` is complete before ``outer`` and begins after it."""
    return inner in outer[1:-1]


@given(split(), stop_lists)
@settings(max_examples=400)
def test_any_splitting_gives_the_text_before_the_first_stop(pieces: list[str], stops: list[str]) -> None:
    """For any borders between the pieces."""
    assume(not any(inside(a, b) for a in stops for b in stops))
    assert stream(pieces, stops) == first_stop("".join(pieces), stops)


def test_stop_inside_another_stop_does_not_depend_on_splitting() -> None:
    """If one stop string contains another, all splittings end the text at the same one."""
    splittings = (["xabcd"], ["xa", "bcd"], ["xab", "cd"], ["x", "a", "b", "c", "d"])
    assert {stream(pieces, ["abcd", "bc"]) for pieces in splittings} == {("xa", True)}


@given(split(), stop_lists)
def test_nothing_shown_can_still_become_a_stop(pieces: list[str], stops: list[str]) -> None:
    """Shown text is final, and no more text is held than a stop string needs."""
    finder, shown, fed = StopStrings(stops), "", ""
    for piece in pieces:
        fed += piece
        text, stopped = finder.add(piece)
        shown += text
        if stopped:
            break
        assert fed.startswith(shown)
        assert len(fed) - len(shown) < max(len(stop) for stop in stops)
        assert not any(shown.endswith(stop[:n]) for stop in stops for n in range(1, len(stop))) or len(shown) < len(fed)


@pytest.mark.parametrize(
    ("pieces", "stops", "shown"),
    [
        (["Hello ST", "OP world"], ["STOP"], ["Hello ", ""]),
        (["Hello S", "Txyz"], ["STOP"], ["Hello ", "STxyz"]),
        (["a", "\n", "\n", "b"], ["\n\n"], ["a", "", ""]),
        (["aab"], ["ab"], ["a"]),
        (["aa", "ab"], ["aab"], ["", "a"]),
        (["one", "two"], [], ["one", "two"]),
    ],
)
def test_literal_streams(pieces: list[str], stops: list[str], shown: list[str]) -> None:
    """Across borders, a start that comes to nothing, an overlap with itself."""
    finder = StopStrings(stops)
    found = [finder.add(piece) for piece in pieces[: len(shown)]]
    assert [text for text, _ in found] == shown
    assert not any(stopped for _, stopped in found[:-1])
    assert found[-1][1] == any(stop in "".join(pieces) for stop in stops)


def test_flush_gives_what_was_held_once() -> None:
    """The beginning of a stop string that never came is text."""
    finder = StopStrings(["STOP"])
    assert finder.add("end ST") == ("end ", False)
    assert (finder.flush(), finder.flush()) == ("ST", "")


def test_flush_after_a_stop_gives_nothing() -> None:
    """Text after a stop string is dropped."""
    finder = StopStrings(["STOP", "ing"])
    assert finder.add("someSTOPing") == ("some", True)
    assert finder.flush() == ""
