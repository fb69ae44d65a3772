"""Laws of telling a model's thinking from its answer."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localspec.chat.thinking import ThinkingParser
from localspec.types import Channel
from tests.helpers.support import MarkerVocabulary

VOCABULARY = MarkerVocabulary()
GEMMA_PROMPT = "<bos><|turn>user\nHi<turn|>\n<|turn>model\n"
QWEN_PROMPT = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def channels_of(prompt: str, reply: str) -> tuple[str, str]:
    """(answer, thought) of a reply that is tokenized and fed token by token."""
    channels = ThinkingParser(VOCABULARY, prompt)
    parts: dict[Channel, str] = {"answer": "", "thought": ""}
    for token in VOCABULARY.tokenize(reply, add_special=False):
        channel, text = channels.add(token, VOCABULARY.piece(token).decode())
        parts[channel] += text
    return parts["answer"], parts["thought"]


@pytest.mark.parametrize(
    ("prompt", "reply", "answer", "thought"),
    [
        (GEMMA_PROMPT, "Hello.", "Hello.", ""),
        (GEMMA_PROMPT, "<|channel>thought\nWell..<channel|>Hello.", "Hello.", "Well.."),
        (GEMMA_PROMPT, "<|channel>thought\n<channel|>Hello.", "Hello.", ""),
        (GEMMA_PROMPT, "<|channel>thought\nA\nB<channel|>\nHello.", "Hello.", "A\nB"),
        (GEMMA_PROMPT, "So. <|channel>thought\nHm<channel|>Yes.", "So. Yes.", "Hm"),
        (GEMMA_PROMPT, "<|channel>thought\nnever closed", "", "never closed"),
        (GEMMA_PROMPT + "<|channel>thought\n<channel|>", "Hello.", "Hello.", ""),
        (GEMMA_PROMPT + "<|channel>thought\n", "Well..<channel|>Hello.", "Hello.", "Well.."),
        (QWEN_PROMPT, "<think>\nWell..\n</think>\n\nHello.", "Hello.", "Well..\n"),
        (QWEN_PROMPT + "<think>\n", "Well..\n</think>\n\nHello.", "Hello.", "Well..\n"),
        (QWEN_PROMPT + "<think>\n\n</think>\n\n", "Hello.\n\nBye.", "Hello.\n\nBye.", ""),
        (QWEN_PROMPT, "<think></think>", "", ""),
    ],
)
def test_markers_part_thought_from_answer(prompt: str, reply: str, answer: str, thought: str) -> None:
    """Markers, the channel's name and the blank lines about them are not shown; the rest is, in its channel."""
    assert channels_of(prompt, reply) == (answer, thought)


@given(st.text(st.characters(codec="ascii"), max_size=40))
def test_answer_without_markers_is_left_as_it_is(reply: str) -> None:
    """Blank lines at its start included."""
    if any(marker in reply for marker in VOCABULARY.markers):
        return
    assert channels_of(GEMMA_PROMPT, reply) == (reply, "")


@given(
    st.lists(st.sampled_from(["<|channel>", "thought", "\n", "a", " ", "b\nc", "<channel|>", "<think>", "</think>"]))
)
def test_text_is_kept_in_order_and_never_invented(parts: Sequence[str]) -> None:
    """The shown text is a subsequence of the generated text, for any markers."""
    channels = ThinkingParser(VOCABULARY, GEMMA_PROMPT)
    shown = ""
    for token in VOCABULARY.tokenize("".join(parts), add_special=False):
        shown += channels.add(token, VOCABULARY.piece(token).decode())[1]
    left = iter("".join(parts))
    assert all(char in left for char in shown)
    assert not any(marker in shown for marker in VOCABULARY.spoken)


def test_closed_thought_of_an_earlier_turn_does_not_matter() -> None:
    """Only the end of the prompt decides in which channel the reply begins."""
    past = "<|im_start|>assistant\n<think>\nOld.\n</think>\n\nYes.<|im_end|>\n"
    assert channels_of(past + QWEN_PROMPT, "Hello.") == ("Hello.", "")


@pytest.mark.parametrize(("said", "prompt"), [("<think>", QWEN_PROMPT), ("<|channel>", GEMMA_PROMPT)])
def test_what_a_user_writes_opens_no_thought(said: str, prompt: str) -> None:
    """Asking what <think> means must not turn the whole answer into a thought."""
    assert channels_of(prompt.replace("Hi", f"What is {said}?"), "A marker.") == ("A marker.", "")


def test_model_without_markers_only_answers() -> None:
    """A marker that is not a single token of the vocabulary is plain text."""

    class Plain(MarkerVocabulary):
        def tokenize(self, text: str, *, add_special: bool, parse_special: bool = True) -> list[int]:
            return list(text.encode())

    channels = ThinkingParser(Plain(), "<think>\n")
    assert channels.channel == "answer"
    assert channels.add(ord("<"), "<") == ("answer", "<")
