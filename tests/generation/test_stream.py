"""Laws of the way from steps to chunks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localspec.chat.thinking import ThinkingParser
from localspec.draft.base import Draft
from localspec.generation.detokenize import detokenize
from localspec.generation.loop import Step
from localspec.generation.result import Chunk
from localspec.generation.stream import Assembler
from localspec.testing import ScriptedVocabulary
from tests.helpers.support import MarkerVocabulary

END = 255
VOCABULARY = ScriptedVocabulary(256, ends=[END])


def steps_of(tokens: Sequence[int], sizes: Sequence[int]) -> list[Step]:
    """``tokens`` in steps of the given sizes (all but the last of a step drafted), the rest one by one."""
    ends = [0, *accumulate(sizes)]
    ends = [0, *(end for end in ends[1:] if end < len(tokens))]
    ends += range(ends[-1] + 1, len(tokens) + 1)
    return [Step(tuple(tokens[a:b]), b - a - 1, Draft()) for a, b in pairwise(ends) if b > a]


def assemble(
    steps: Sequence[Step], stops: Sequence[str] = (), budget: int = 10**6, vocabulary: ScriptedVocabulary = VOCABULARY
) -> tuple[list[Chunk], Assembler]:
    answer = Assembler(vocabulary, stops, budget)
    chunks: list[Chunk] = []
    for step in steps:
        if answer.finish_reason is None:
            chunks.extend(answer.add(step))
    return [*chunks, answer.flush()], answer


def drafted(text: str | bytes, accepted: int | None = None) -> Step:
    """One step with the bytes of ``text``."""
    tokens = tuple(text.encode() if isinstance(text, str) else text)
    return Step(tokens, len(tokens) - 1 if accepted is None else accepted, Draft())


sizes = st.lists(st.integers(1, 6), max_size=20)


@given(st.text(max_size=20), sizes)
def test_pieces_join_to_the_text(text: str, widths: list[int]) -> None:
    """Chunks, their pieces and the answer have the same text, for any steps."""
    tokens = list(text.encode())
    chunks, answer = assemble(steps_of(tokens, widths))
    assert "".join(chunk.text for chunk in chunks) == answer.text == text
    assert [token for chunk in chunks for token in chunk.tokens] == answer.tokens == tokens
    for chunk in chunks[:-1]:
        assert chunk.text == "".join(chunk.pieces)
        assert len(chunk.tokens) == len(chunk.sources) == len(chunk.pieces) > 0
        assert chunk.completion is None


@given(st.text("abc", max_size=30), st.lists(st.text("abc", min_size=1, max_size=3), max_size=2), st.integers(1, 40))
@settings(max_examples=200)
def test_any_steps_give_the_same_answer(text: str, stops: list[str], budget: int) -> None:
    """Drafting changes neither text nor tokens nor the finish reason."""
    tokens = [*text.encode(), END, *b"more"]
    results = set()
    for widths in ([], [1, 2, 3], [5] * 9, [99]):
        _, answer = assemble(steps_of(tokens, widths), stops, budget)
        results.add((answer.text, tuple(answer.tokens), answer.finish_reason))
    assert len(results) == 1


def test_sources_say_who_proposed_each_token() -> None:
    """The accepted ones are drafted, the last is the target's own."""
    chunks, _ = assemble([drafted("abc"), drafted("d"), drafted("ef")])
    sources = [source for chunk in chunks for source in chunk.sources]
    assert sources == ["drafted", "drafted", "target", "target", "drafted", "target"]


@pytest.mark.parametrize("at", range(4))
def test_end_token_inside_a_draft_drops_the_rest(at: int) -> None:
    """It is no part of the tokens, and neither is what follows it."""
    tokens = [*b"wxyz"]
    tokens[at] = END
    chunks, answer = assemble([Step(tuple(tokens), 3, Draft())])
    assert (answer.text, answer.tokens, answer.finish_reason) == ("wxyz"[:at], tokens[:at], "stop")
    assert [token for chunk in chunks for token in chunk.tokens] == tokens[:at]


def test_stop_string_inside_a_draft_drops_the_rest() -> None:
    """The token that completed it is kept, its text is not, and nothing follows."""
    chunks, answer = assemble([drafted("say STOP now")], ["STOP"])
    assert (answer.text, bytes(answer.tokens), answer.finish_reason) == ("say ", b"say STOP", "stop")
    assert "".join(chunk.text for chunk in chunks) == "say "


def test_stop_string_across_steps_is_never_shown() -> None:
    """Its beginning is held back until it is certain."""
    chunks, _ = assemble([drafted("sayST"), drafted("OP")], ["STOP"])
    assert [chunk.text for chunk in chunks] == ["say", "", ""]


def test_text_held_for_a_stop_string_comes_at_the_end() -> None:
    """The beginning of one that never came is part of the answer."""
    chunks, answer = assemble([drafted("sayST"), Step((END,), 0, Draft())], ["STOP"])
    assert [chunk.text for chunk in chunks] == ["say", "ST"]
    assert answer.text == "sayST"


@pytest.mark.parametrize("budget", [1, 2, 3, 4])
def test_budget_inside_a_draft_drops_the_rest(budget: int) -> None:
    """Exactly so many tokens, and the reason is length."""
    _, answer = assemble([drafted("ab"), drafted("cd"), drafted("ef")], budget=budget)
    assert (answer.text, answer.finish_reason, answer.left) == ("abcd"[:budget], "length", 0)


def test_end_token_after_the_last_of_the_budget_is_not_awaited() -> None:
    """With the budget used up the reason is length, whatever would have come."""
    _, answer = assemble([drafted(b"ab\xff")], budget=2)
    assert answer.finish_reason == "length"


def test_stop_string_with_the_last_token_of_the_budget_is_a_stop() -> None:
    """The answer was complete."""
    _, answer = assemble([drafted("aSTOP")], ["STOP"], budget=5)
    assert (answer.text, answer.finish_reason) == ("a", "stop")


def test_unfinished_character_shows_at_the_end() -> None:
    """It becomes U+FFFD in the last chunk."""
    chunks, answer = assemble([drafted(b"a\xc3"), Step((END,), 0, Draft())])
    assert [chunk.text for chunk in chunks] == ["a", "�"]
    assert answer.text == "a�"


def test_nothing_follows_a_stop_string() -> None:
    """Also where its token ends inside a character."""
    vocabulary = ScriptedVocabulary(2, pieces=[b"a", b"STOP\xc3"])
    _, answer = assemble([Step((0, 1), 1, Draft())], ["STOP"], vocabulary=vocabulary)
    assert answer.text == "a"


# With channels.

MARKED = MarkerVocabulary()


def chat(reply: str, stops: Sequence[str] = (), width: int = 3) -> tuple[list[Chunk], Assembler]:
    tokens = MARKED.tokenize(reply, add_special=False)
    answer = Assembler(MARKED, stops, 10**6, ThinkingParser(MARKED, ""))
    chunks: list[Chunk] = []
    for step in steps_of(tokens, [width] * len(tokens)):
        if answer.finish_reason is None:
            chunks.extend(answer.add(step))
    return [*chunks, answer.flush()], answer


@pytest.mark.parametrize("width", [1, 2, 3, 7, 50])
def test_chunk_has_one_channel(width: int) -> None:
    """A step that crosses a marker gives a chunk for each side; all tokens are in some chunk."""
    reply = "<|channel>thought\nWell<channel|>Yes<think>No</think>!"
    chunks, answer = chat(reply, width=width)
    assert (answer.text, answer.thought) == ("Yes!", "WellNo")
    for channel, whole in (("answer", answer.text), ("thought", answer.thought)):
        assert "".join(chunk.text for chunk in chunks if chunk.channel == channel) == whole
    tokens = [token for chunk in chunks for token in chunk.tokens]
    assert tokens == answer.tokens == MARKED.tokenize(reply, add_special=False)


def test_stop_strings_are_for_the_answer() -> None:
    """A thought may contain one."""
    _, answer = chat("<think>STOP</think>go STOP", ["STOP"])
    assert (answer.text, answer.thought, answer.finish_reason) == ("go ", "STOP", "stop")


def test_text_held_when_a_thought_begins_is_not_lost() -> None:
    """The answer keeps what looked like the beginning of a stop string."""
    chunks, answer = chat("go ST<think>hm", ["STOP"])
    assert (answer.text, answer.thought) == ("go ST", "hm")
    assert "".join(chunk.text for chunk in chunks if chunk.channel == "thought") == "hm"


def test_whole_text_is_what_detokenize_gives() -> None:
    """The stream and the function agree."""
    tokens = list("żółć 😀".encode())
    _, answer = assemble(steps_of(tokens, [2, 3]))
    assert answer.text == detokenize(VOCABULARY, tokens)
