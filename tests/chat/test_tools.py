"""Laws of tools: what goes into prompts, what comes out of answers, with any drafter and in any number of turns."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import localspec
from localspec.chat.call_parts import CallPart
from localspec.chat.call_syntax import GEMMA, HERMES, CallSyntax
from localspec.chat.conversation import Conversation
from localspec.chat.template import ChatTemplate
from localspec.chat.thinking import ThinkingParser
from localspec.chat.tool_calls import ToolCallParser
from localspec.chat.tools import call_id, check_choice, check_tools
from localspec.draft.base import Draft
from localspec.draft.ngram import NgramDrafter
from localspec.engine import Engine, ModelInfo
from localspec.errors import InputError, TemplateError, UsageError
from localspec.generation.generation import Generation
from localspec.generation.loop import Step
from localspec.generation.pair import Pair, Setup
from localspec.generation.result import Completion
from localspec.generation.stream import Assembler
from localspec.generation.task import Task
from localspec.testing import Logits, ScriptedContext, ScriptedDrafter
from tests.helpers.paths import DATA
from tests.helpers.support import MarkerVocabulary, load_fixed

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TOOLS = [WEATHER]
TEMPLATES = {"gemma": (DATA / "gemma-4.jinja").read_text(), "qwen": (DATA / "qwen2.5.jinja").read_text()}
CALLS = {
    "gemma": '<|tool_call>call:get_weather{city:<|"|>Rome<|"|>}<tool_call|>',
    "qwen": '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>',
}
THOUGHTS = {"gemma": "<|channel>thought\nThe city.<channel|>", "qwen": "<think>\nThe city.\n</think>\n\n"}
ENDS = {"gemma": "<turn|>", "qwen": "<|im_end|>"}
SYNTAXES: dict[str, CallSyntax] = {"gemma": GEMMA, "qwen": HERMES}
FAMILIES = sorted(TEMPLATES)


class Vocabulary(MarkerVocabulary):
    """Every marker of calls is one token; some have no text of their own when they are generated."""

    markers = (*MarkerVocabulary.markers, "<|tool_call>", "<tool_call|>", '<|"|>', "<tool_call>", "</tool_call>")
    spoken = (*MarkerVocabulary.spoken, "<tool_call>", '<|"|>')


VOCABULARY = Vocabulary(add_bos=False)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def result(call: Any, text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call["id"], "content": text}


def saying(script: Sequence[int], start: int) -> Logits:
    """Logits that produce ``script`` from position ``start`` on."""

    def logits(tokens: tuple[int, ...]) -> Any:
        row = np.zeros(VOCABULARY.n_tokens, np.float32)
        row[script[max(0, min(len(tokens) - start, len(script) - 1))]] = 50.0
        return row

    return logits


def engine_saying(family: str, replies: Sequence[str], drafters: Sequence[Any] = ()) -> Engine:
    """An engine that gives the replies in order."""
    scripts = [[*VOCABULARY.tokenize(reply, add_special=False), VOCABULARY.id(ENDS[family])] for reply in replies]
    target = ScriptedContext(saying([0], 0), VOCABULARY.n_tokens)
    info = ModelInfo("scripted", Path("scripted"), "scripted", "scripted", 0, 0, 4096, VOCABULARY.n_tokens)
    template = ChatTemplate(TEMPLATES[family])
    pair = Pair(target, VOCABULARY, tuple(drafters))
    engine = Engine(pair, Setup("exact"), model=info, template=template)
    turns = iter(scripts)
    made = engine._generation

    def generation(task: Task) -> Generation:
        target._logits = saying(next(turns), len(task.tokens))
        return made(task)

    engine._generation = generation  # type: ignore[method-assign]
    return engine


def drafters_of(kind: str) -> list[Any]:
    right = ScriptedDrafter(lambda tokens: VOCABULARY.tokenize('<tool_call>\n{"name": "get', add_special=False))
    return {"none": [], "ngram": [NgramDrafter(min_match=1)], "scripted": [right]}[kind]


# Answers.


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("drafter", ["none", "ngram", "scripted"])
def test_call_comes_out_of_the_text_whatever_drafts(family: str, drafter: str) -> None:
    """Thought, text and call are separate, ids are equal, and the streamed text has no call syntax."""
    reply = f"{THOUGHTS[family]}Let me see.\n{CALLS[family]}"
    options: dict[str, Any] = {"temperature": 0.7, "seed": 3, "thinking": True, "tools": TOOLS}
    for width in (0, 1, 3, 8):
        with engine_saying(family, [reply], drafters_of(drafter)) as engine:
            position = len(engine.prompt_tokens([user("Rome?")], thinking=True, tools=TOOLS))
            chunks = list(engine.stream_chat([user("Rome?")], draft_max=width, **options))
        done = chunks[-1].completion
        assert done is not None
        assert (done.text, done.thought.strip()) == ("Let me see.", "The city.")
        assert "".join(chunk.text for chunk in chunks if chunk.channel == "answer") == done.text
        (call,) = done.tool_calls
        assert (call["type"], call["function"]["name"]) == ("function", "get_weather")
        assert json.loads(call["function"]["arguments"]) == {"city": "Rome"}
        assert call["id"] == call_id(3, position, 0)
        assert (done.finish_reason, done.notice) == ("tool_calls", None)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_tools_a_call_is_text(family: str) -> None:
    """Nothing was offered, or the choice is none: nothing is looked for."""
    for more in ({}, {"tools": []}, {"tools": TOOLS, "tool_choice": "none"}):
        with engine_saying(family, ["Hi <tool_call> there"]) as engine:
            done = engine.chat([user("Rome?")], temperature=0, **more)
        assert (done.text, done.tool_calls, done.finish_reason) == ("Hi <tool_call> there", (), "stop")


@pytest.mark.parametrize("family", FAMILIES)
def test_call_that_the_budget_cut_is_text_and_told_of(family: str) -> None:
    """All of it is shown as text, with a notice."""
    for budget in range(1, len(VOCABULARY.tokenize(CALLS[family], add_special=False))):
        with engine_saying(family, [CALLS[family]]) as engine:
            done = engine.chat([user("Rome?")], temperature=0, tools=TOOLS, max_tokens=budget)
        assert CALLS[family].startswith(done.text)
        assert done.text == "".join(VOCABULARY.text(token) for token in done.tokens)
        assert (done.tool_calls, done.finish_reason) == ((), "length")
        assert done.notice == "A tool call could not be read, and was left in the text."


@pytest.mark.parametrize("family", FAMILIES)
def test_budget_that_ends_with_a_call_keeps_the_call(family: str) -> None:
    """The end is still the budget's: there may have been more."""
    budget = len(VOCABULARY.tokenize(CALLS[family], add_special=False))
    with engine_saying(family, [CALLS[family] * 2]) as engine:
        done = engine.chat([user("Rome?")], temperature=0, tools=TOOLS, max_tokens=budget)
    assert (len(done.tool_calls), done.text, done.finish_reason, done.notice) == (1, "", "length", None)


def test_stop_strings_do_not_look_into_calls() -> None:
    """A line end stops the text, not the call."""
    with engine_saying("qwen", [f"{CALLS['qwen']}\n{CALLS['qwen']}"]) as engine:
        done = engine.chat([user("Rome?")], temperature=0, tools=TOOLS, stop=["\n", "name"])
    assert (len(done.tool_calls), done.text, done.finish_reason) == (2, "", "tool_calls")
    with engine_saying("qwen", [f"One.\nTwo.\n{CALLS['qwen']}"]) as engine:
        done = engine.chat([user("Rome?")], temperature=0, tools=TOOLS, stop=["\n"])
    assert (done.text, done.tool_calls, done.finish_reason) == ("One.", (), "stop")


@pytest.mark.parametrize("family", FAMILIES)
@given(
    st.lists(st.sampled_from(["call", "thought", "Hi. ", "\n", " ", "<", "<tool_call>", "</tool_call>", "{", "é"]),
             max_size=8),
    st.lists(st.integers(1, 9), max_size=30),
    st.integers(1, 200),
    st.sampled_from([(), ("Hi",), ("\n",), ("{",)]),
)  # fmt: skip
@settings(max_examples=80)
def test_how_tokens_come_in_steps_changes_nothing(
    family: str, parts: list[str], widths: list[int], budget: int, stops: tuple[str, ...]
) -> None:
    """Any split gives the same text, calls, thought and end, also with a budget and stop strings."""
    reply = "".join({"call": CALLS[family], "thought": THOUGHTS[family]}.get(part, part) for part in parts)
    tokens = [*VOCABULARY.tokenize(reply, add_special=False), VOCABULARY.id(ENDS[family])]
    one_by_one = assembled(family, tokens, [], budget, stops)
    assert assembled(family, tokens, widths, budget, stops) == one_by_one
    assert assembled(family, tokens, [len(tokens)], budget, stops) == one_by_one


def assembled(
    family: str, tokens: list[int], widths: list[int], budget: int, stops: Sequence[str], vocabulary: Any = VOCABULARY
) -> tuple[Any, ...]:
    """The answer of tokens that come in steps of ``widths``, then one by one."""
    calls = ToolCallParser(SYNTAXES[family], ["get_weather"])
    answer = Assembler(vocabulary, stops, budget, ThinkingParser(vocabulary, ""), calls)
    ends = [0, *(end for end in accumulate(widths) if end < len(tokens))]
    ends += range(ends[-1] + 1, len(tokens) + 1)
    shown, parts = "", list[CallPart]()
    for a, b in pairwise(ends):
        if answer.finish_reason is None:
            chunks = answer.add(Step(tuple(tokens[a:b]), b - a - 1, Draft()))
            parts += [part for chunk in chunks for part in chunk.calls]
            shown += "".join(chunk.text for chunk in chunks if chunk.channel == "answer")
    last = answer.flush()
    shown += last.text if last.channel == "answer" else ""
    assert shown == answer.text
    written = joined([*parts, *last.calls])
    complete = [(call.name, call.arguments) for call in calls.calls]
    if not calls.malformed:
        assert written == complete
    assert set(complete) <= set(written)
    return answer.text, answer.thought, calls.calls, calls.malformed, answer.tokens, answer.finish_reason


def joined(parts: Sequence[CallPart]) -> list[tuple[str, str]]:
    """Names and arguments of the calls that the parts are of."""
    found: dict[int, tuple[str, str]] = {}
    for part in parts:
        if part.name is not None:
            assert part.number == len(found)
            found[part.number] = (part.name, "")
        name, arguments = found[part.number]
        found[part.number] = (name, arguments + part.arguments)
    return list(found.values())


# Prompts.


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("drafter", ["none", "ngram"])
@pytest.mark.parametrize("text", ["", "Let me see.\n"])
def test_result_goes_on_from_the_cache(family: str, drafter: str, text: str) -> None:
    """The call stays as it was generated; only the result is new, and the turn after that continues too."""
    with engine_saying(family, [text + CALLS[family], "Sunny.", "Bye."], drafters_of(drafter)) as engine:
        options: dict[str, Any] = {"temperature": 0, "tools": TOOLS}
        messages = [user("Rome?")]
        first = engine.chat(messages, **options)
        messages += [first.message, result(first.tool_calls[0], "sun")]
        second = engine.chat(messages, **options)
        messages += [second.message, user("Thanks.")]
        third = engine.chat(messages, **options)
    assert [done.text for done in (first, second, third)] == [text.strip(), "Sunny.", "Bye."]
    assert second.stats.cached_tokens == first.stats.prompt_tokens + len(first.tokens)
    assert third.stats.cached_tokens == second.stats.prompt_tokens + len(second.tokens)


@pytest.mark.parametrize("family", FAMILIES)
def test_continued_prompt_is_what_the_template_renders(family: str) -> None:
    """With one call or two, whatever shape their arguments come back in, and content that is null."""
    calls = [CALLS[family], CALLS[family].replace("Rome", "Oslo")]
    joint = "\n" if family == "qwen" else ""
    chat = Conversation(ChatTemplate(TEMPLATES[family]), VOCABULARY)
    for n in (1, 2):
        found = ToolCallParser(SYNTAXES[family], ["get_weather"])
        reply = joint.join(calls[:n])
        assert found.add(reply) == ""
        made = [
            {"id": f"c{i}", "type": "function", "function": {"name": one.name, "arguments": one.arguments}}
            for i, one in enumerate(found.calls)
        ]
        prompt = chat.prompt([user("Rome?")], tools=TOOLS)
        tokens = list(reply.encode())  # not as the text would be tokenized
        chat.add_reply(prompt, "", tokens, calls=made)
        as_object = [{**one, "function": {"name": "get_weather", "arguments": json.loads(one["function"]["arguments"])}}
                     for one in made]  # fmt: skip
        for shape in (made, as_object):
            message = {"role": "assistant", "content": None, "tool_calls": shape}
            messages = [user("Rome?"), message, *(result(one, "sun") for one in made)]
            continued = chat.prompt(messages, tools=TOOLS)
            assert continued.tokens[: len(prompt.tokens) + len(tokens)] == (*prompt.tokens, *tokens)
            spelled = "".join(VOCABULARY.text(token) for token in continued.tokens)
            fresh = Conversation(ChatTemplate(TEMPLATES[family]), VOCABULARY).prompt(messages, tools=TOOLS)
            assert spelled.replace("<|channel>thought\n<channel|>", "") == fresh.text


@pytest.mark.parametrize("family", FAMILIES)
def test_turn_with_a_call_goes_on_after_a_load(family: str, tmp_path: Path) -> None:
    """Its tokens are in the file as they were generated, the empty thought before them too."""
    with engine_saying(family, [CALLS[family]]) as engine:
        done = engine.chat([user("Rome?")], temperature=0, tools=TOOLS)
        messages = [user("Rome?"), done.message, result(done.tool_calls[0], "sun")]
        expected, cached = engine.prompt_tokens(messages, tools=TOOLS), list(engine._target.tokens)
        engine.save_state(tmp_path / "s")
        engine.forget()
        fresh = engine.prompt_tokens(messages, tools=TOOLS)
        engine.load_state(tmp_path / "s")
        assert engine.prompt_tokens(messages, tools=TOOLS) == expected
        assert expected[: len(cached)] == cached
        assert (fresh[: len(cached)] != cached) == (family == "gemma")


@pytest.mark.parametrize("family", FAMILIES)
def test_other_tools_or_another_call_are_rendered_afresh(family: str) -> None:
    """The common beginning of the cache is reused."""
    with engine_saying(family, [CALLS[family]]) as engine:
        done = engine.chat([user("Rome?")], temperature=0, tools=TOOLS)
        messages = [user("Rome?"), done.message, result(done.tool_calls[0], "sun")]
        continued = engine.prompt_tokens(messages, tools=TOOLS)
        assert engine.prompt_tokens(messages) != continued
        call = done.tool_calls[0]
        other = {**call, "function": {**call["function"], "arguments": '{"city": "Oslo"}'}}
        messages[1] = {**messages[1], "tool_calls": [other]}
        assert "Oslo" in "".join(VOCABULARY.text(token) for token in engine.prompt_tokens(messages, tools=TOOLS))


def test_thought_that_led_to_a_call_stays_until_the_tools_have_answered() -> None:
    """As in Gemma's template; after the next question the thought is left out."""
    template = ChatTemplate(TEMPLATES["gemma"])
    call = {"id": "c", "type": "function", "function": {"name": "get_weather", "arguments": {}}}
    asked = [user("Rome?"), {"role": "assistant", "content": "", "tool_calls": [call], "reasoning_content": "Hm."}]
    asked.append(result(call, "sun"))
    assert "Hm." in template.render(asked, tools=TOOLS)
    assert "Hm." not in template.render([*asked, {"role": "assistant", "content": "Sun."}, user("So?")], tools=TOOLS)


def test_gemma_opens_a_turn_after_text_call_and_result() -> None:
    """Its template ends the turn there and opens none."""
    call = {"id": "c", "type": "function", "function": {"name": "get_weather", "arguments": {}}}
    messages = [user("Rome?"), {"role": "assistant", "content": "Wait.", "tool_calls": [call]}, result(call, "sun")]
    assert ChatTemplate(TEMPLATES["gemma"]).render(messages).endswith("Wait.<turn|>\n<|turn>model\n")


def test_template_that_wants_arguments_as_text_gets_them() -> None:
    """Some join the string; most write the object."""
    call = {"id": "c", "type": "function", "function": {"name": "a", "arguments": {"x": "é"}}}
    messages = [user("x"), {"role": "assistant", "content": "", "tool_calls": [call]}]
    source = "{% for m in messages if m.tool_calls %}{{ '>' + m.tool_calls[0].function.arguments }}{% endfor %}"
    assert ChatTemplate(source).render(messages) == '>{"x": "é"}'


# What is refused.


@pytest.mark.parametrize(
    ("tools", "told"),
    [
        ("get_weather", "in place of a list"),
        ({"a": 1}, "in place of a list"),
        ([1], "tool 1 of tools is 1"),
        ([{"type": "function"}], "tool 1 of tools is"),
        ([WEATHER, {"function": {"name": " "}}], "tool 2 of tools has the name"),
        ([WEATHER, WEATHER], "a second tool of the name get_weather"),
        ([{"function": {"name": "a", "parameters": 1}}], "JSON schema"),
        ([{"function": {"name": "a", "parameters": {"a": {1}}}}], "that JSON does not have"),
    ],
)
def test_bad_tools_are_told_apart(tools: Any, told: str) -> None:
    """Each with the place and what it must be."""
    with engine_saying("qwen", ["Hi"]) as engine, pytest.raises(InputError, match=told):
        engine.stream_chat([user("x")], tools=tools)


def test_nan_in_parameters_is_accepted() -> None:
    """Python's JSON writes it."""
    tools = [{"function": {"name": "a", "parameters": {"a": float("nan")}}}]
    with engine_saying("qwen", ["Hi"]) as engine:
        assert engine.chat([user("x")], temperature=0, tools=tools).text == "Hi"


def test_tools_need_a_template_that_takes_them() -> None:
    """The built-in model's template takes none, which is an error."""
    with localspec.load("tiny", "none", threads=1) as engine, pytest.raises(TemplateError, match="takes no tools"):
        engine.chat([user("x")], tools=TOOLS)


@pytest.mark.parametrize("choice", ["any", {"type": "function"}, 1])
def test_choices_of_other_shapes_are_errors(choice: Any) -> None:
    """The message tells the shapes that there are."""
    with pytest.raises(UsageError, match="'required' or"):
        check_choice(choice, check_tools(TOOLS))


def test_ids_differ_between_answers_and_calls() -> None:
    """The same output has the same ids."""
    ids = {call_id(seed, position, number) for seed in range(3) for position in range(9) for number in range(3)}
    assert len(ids) == 81
    assert all(name.startswith("call_") and name[5:].isalnum() for name in ids)
    assert check_tools(None) == ()


# On the built-in pair.


class Led:
    """The built-in target with one logit raised, so that it writes a script after its prompt."""

    def __init__(self, target: Any, script: Sequence[int]) -> None:
        self._target, self._script, self.start = target, script, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def decode(self, tokens: Sequence[int], outputs: Any = "all") -> Any:
        rows = self._target.decode(tokens, outputs)
        for i, row in enumerate(rows):
            at = len(self._target.tokens) - len(rows) + i + 1 - self.start
            if 0 <= at < len(self._script):
                row[self._script[at]] = 1000.0
        return rows


@pytest.fixture(scope="module", params=["none", "ngram", "auto"])
def pair(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with load_fixed("tiny", request.param) as engine:
        engine._tasks.conversation = Conversation(ChatTemplate(TEMPLATES["gemma"], bos="<bos>"), engine.vocabulary)
        yield engine


def test_built_in_pair_calls_with_any_drafter(pair: Engine) -> None:
    """Real tokens of real markers; the answer after the result is that of a fresh prefill of the same tokens."""
    said = f"{THOUGHTS['gemma']}Let me see. {CALLS['gemma']}"
    script = [
        *pair.vocabulary.tokenize(said, add_special=False),
        pair.vocabulary.tokenize("<|tool_response>", add_special=False)[0],
    ]
    plain = pair._target
    led: Any = Led(plain, script)
    messages = [user("Rome?")]
    options: dict[str, Any] = {"tools": TOOLS, "temperature": 0.8, "seed": 1, "max_tokens": 60}
    led.start = len(pair.prompt_tokens(messages, tools=TOOLS))
    answers: list[Completion] = []
    try:
        pair._pair = replace(pair._pair, target=led)
        answers += [pair.chat(messages, draft_max=width, **options) for width in (0, 1, 4, 8)]
    finally:
        pair._pair = replace(pair._pair, target=plain)
    done = answers[0]
    assert (done.text, done.thought, done.finish_reason) == ("Let me see.", "The city.", "tool_calls")
    assert json.loads(done.tool_calls[0]["function"]["arguments"]) == {"city": "Rome"}
    for other in answers:
        assert (other.text, other.thought, other.tool_calls) == (done.text, done.thought, done.tool_calls)
    messages += [done.message, result(done.tool_calls[0], "sun")]
    after = pair.chat(messages, **options)
    again = pair.chat(messages, draft_max=0, **options)
    assert (after.tokens, after.text) == (again.tokens, again.text)


@given(st.lists(st.integers(1, 9), max_size=20), st.sampled_from(["", "thought", "text"]))
def test_built_in_vocabulary_in_any_steps(pair: Engine, widths: list[int], first: str) -> None:
    """The Gemma markers of a real GGUF."""
    head = {"": "", "thought": THOUGHTS["gemma"], "text": "Let me see.\n"}[first]
    tokens = pair.vocabulary.tokenize(head + CALLS["gemma"] * 2, add_special=False)
    text, thought, found, broken, _, _ = assembled("gemma", tokens, widths, 10**6, (), pair.vocabulary)
    assert (text, thought) == ("Let me see." if first == "text" else "", "The city." if first == "thought" else "")
    assert ([one.name for one in found], broken) == (["get_weather"] * 2, False)
