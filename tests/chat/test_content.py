"""Laws of contents that are lists of parts: their texts are lines, and any other part is named."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localspec.chat.content import content_text
from localspec.chat.conversation import Conversation
from localspec.chat.template import ChatTemplate, check_messages
from localspec.errors import InputError
from tests.chat.test_conversation import CHATML
from tests.helpers.support import MarkerVocabulary


def parts(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


@given(st.lists(st.text(max_size=9), min_size=1, max_size=5))
def test_parts_are_the_lines_of_their_text(texts: list[str]) -> None:
    """A prompt of parts is the prompt of the joined text, in every role."""
    roles = ["system", "user", "assistant", "user", "tool"]
    for given_texts in (texts, texts[:1]):
        listed = [{"role": role, "content": parts(*given_texts)} for role in roles[:4]]
        joined = [{"role": role, "content": "\n".join(given_texts)} for role in roles[:4]]
        chat = Conversation(ChatTemplate(CHATML), MarkerVocabulary())
        assert chat.prompt(listed) == chat.prompt(joined)


def test_a_turn_given_as_parts_goes_on_from_the_cache() -> None:
    """The reply may come back as text or as a part."""
    for content in ("lo", parts("lo")):
        chat = Conversation(ChatTemplate(CHATML), MarkerVocabulary())
        first = chat.prompt([{"role": "user", "content": parts("say", "hello")}])
        chat.add_reply(first, "lo", list(b"lo"))
        messages = [
            {"role": "user", "content": "say\nhello"},
            {"role": "assistant", "content": content},
            {"role": "user", "content": "then?"},
        ]
        assert chat.prompt(messages).tokens[: len(first.tokens) + 2] == (*first.tokens, *b"lo")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([{"type": "image_url", "image_url": {"url": "x"}}], "part 1 of message 0 has the type 'image_url'"),
        ([*parts("x"), {"type": "input_audio"}], "part 2 of message 0 has the type 'input_audio'"),
        ([{"text": "x"}], "part 1 of message 0 is"),
        (["x"], "part 1 of message 0 is 'x'"),
        ([None], "part 1 of message 0 is None"),
        ([{"type": 1, "text": "x"}], "part 1 of message 0 is"),
        ([{"type": "text"}], 'part 1 of message 0 has None as "text"'),
        ([{"type": "text", "text": ["x"]}], "has \\['x'\\] as \"text\""),
        ([], "message 0 has an empty list"),
        (7, "message 0 has content 7"),
        (b"x", "message 0 has content b'x'"),
        ({"type": "text", "text": "x"}, "message 0 has content"),
    ],
)
def test_other_contents_are_named(content: Any, told: str) -> None:
    """With the place, and in one sentence."""
    with pytest.raises(InputError, match=told) as error:
        check_messages([{"role": "user", "content": content}])
    assert "\n" not in str(error.value)
    with pytest.raises(InputError):
        content_text(content, "message 0")
