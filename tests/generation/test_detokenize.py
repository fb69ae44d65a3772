"""Laws of bytes to text while it streams."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localspec.generation.detokenize import Detokenizer, detokenize
from localspec.testing import ScriptedVocabulary


def stream(pieces: list[bytes]) -> list[str]:
    decoder = Detokenizer(ScriptedVocabulary(len(pieces), pieces=pieces))
    return [*(decoder.add(token) for token in range(len(pieces))), decoder.flush()]


@st.composite
def split(draw: st.DrawFn, data: st.SearchStrategy[bytes]) -> list[bytes]:
    whole = draw(data)
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=10)))
    return [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


@given(split(st.text().map(str.encode)))
def test_any_split_of_a_text_gives_the_text(pieces: list[bytes]) -> None:
    """Tokens may end inside a character; nothing is replaced, and nothing is left for the flush."""
    *shown, rest = stream(pieces)
    assert "".join(shown) == b"".join(pieces).decode()
    assert rest == ""


@given(split(st.binary(max_size=40)))
def test_any_split_of_any_bytes_gives_the_same_text(pieces: list[bytes]) -> None:
    """Bytes that are no UTF-8 become U+FFFD, the same for the stream and for the whole."""
    whole = b"".join(pieces)
    assert "".join(stream(pieces)) == whole.decode(errors="replace")
    vocabulary = ScriptedVocabulary(len(pieces), pieces=pieces)
    assert detokenize(vocabulary, range(len(pieces))) == whole.decode(errors="replace")


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        ([b"\xf0\x9f", b"\x98", b"\x80"], ["", "", "😀", ""]),
        ([b"a\xc3", b"\xa9b"], ["a", "éb", ""]),
        ([b"a\xc3"], ["a", "�"]),
        ([b"\xc3", b"z"], ["", "�z", ""]),
        ([b"\xff", b"z"], ["�", "z", ""]),
        ([b"\xf0\x9f\x98"], ["", "�"]),
    ],
)
def test_characters_appear_when_they_are_complete(pieces: list[bytes], shown: list[str]) -> None:
    """Not before, and not after; an unfinished one shows at the flush."""
    assert stream(pieces) == shown


def test_control_tokens_have_no_text() -> None:
    """They do not break a character either."""
    vocabulary = ScriptedVocabulary(3, ends=[1], pieces=[b"\xc3", b"<end>", b"\xa9"])
    assert detokenize(vocabulary, [0, 1, 2]) == "é"
