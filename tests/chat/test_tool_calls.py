"""Laws of taking tool calls out of a text that streams."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localspec.chat.call_syntax import GEMMA, HERMES, LLAMA, CallSyntax, MarkedJson, find_syntax
from localspec.chat.call_values import IncompleteError, MalformedError, read_object
from localspec.chat.template import ChatTemplate
from localspec.chat.tool_calls import ToolCallParser
from tests.helpers.paths import DATA

SYNTAXES: dict[str, CallSyntax] = {"hermes": HERMES, "gemma": GEMMA, "llama": LLAMA}
NAMES = ("get_weather", "add")
Q = '<|"|>'


def hermes(name: str, arguments: Any) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments}, ensure_ascii=False)}\n</tool_call>"


def gemma_value(value: Any) -> str:
    """Format a value as Gemma 4's template does."""
    if isinstance(value, str):
        return f"{Q}{value}{Q}"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{gemma_value(item)}" for key, item in sorted(value.items())) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(gemma_value, value)) + "]"
    return json.dumps(value)


def gemma(name: str, arguments: dict[str, Any]) -> str:
    return f"<|tool_call>call:{name}{gemma_value(arguments)}<tool_call|>"


def llama(name: str, arguments: Any) -> str:
    return json.dumps({"name": name, "parameters": arguments}, ensure_ascii=False)


WRITERS = {"hermes": hermes, "gemma": gemma, "llama": llama}


def run(kind: str, pieces: list[str], *, whole: bool = True) -> tuple[str, list[tuple[str, Any]], bool]:
    """(text, calls, broken) of a text in pieces."""
    calls = ToolCallParser(SYNTAXES[kind], NAMES)
    shown = [calls.add(piece) for piece in pieces]
    shown.append(calls.flush(complete=whole))
    return "".join(shown), [(call.name, json.loads(call.arguments)) for call in calls.calls], calls.malformed


def cut(text: str, places: list[int]) -> list[str]:
    at = sorted({place % (len(text) + 1) for place in places})
    return [text[a:b] for a, b in zip([0, *at], [*at, len(text)], strict=True)]


plain = st.text(st.characters(exclude_categories=("Cs",)), max_size=12).filter(lambda text: Q not in text)
keys = st.text("abc_ é", min_size=1, max_size=6).filter(lambda key: key.strip() == key)
numbers = st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(keys, values, max_size=4)


@pytest.mark.parametrize("kind", sorted(SYNTAXES))
@given(arguments=objects, places=st.lists(st.integers(0, 500), max_size=30))
def test_any_arguments_come_back_however_they_stream(kind: str, arguments: Any, places: list[int]) -> None:
    """Nested values, markers inside strings, characters of every script; nothing of the call is left in the text."""
    text = WRITERS[kind]("get_weather", arguments)
    assert run(kind, cut(text, places)) == ("", [("get_weather", arguments)], False)


@pytest.mark.parametrize("kind", ["hermes", "gemma"])
@pytest.mark.parametrize("inside", ["</tool_call>", "<tool_call>", "<tool_call|>", "<|tool_call>", '"}', "}<"])
def test_markers_inside_strings_are_text_of_the_string(kind: str, inside: str) -> None:
    """A call about calls."""
    text = WRITERS[kind]("add", {"a": f"x {inside} y"})
    assert run(kind, list(text)) == ("", [("add", {"a": f"x {inside} y"})], False)


@pytest.mark.parametrize("kind", ["hermes", "gemma"])
def test_text_before_between_and_after_calls_stays(kind: str) -> None:
    """Blanks next to a call go with it; several calls come in order."""
    one, two = WRITERS[kind]("add", {"a": 1}), WRITERS[kind]("get_weather", {})
    expected = [("add", {"a": 1}), ("get_weather", {})]
    assert run(kind, list(f"Let me see.\n{one}\n{two}\n")) == ("Let me see.", expected, False)
    assert run(kind, list(f"A {one} B\n")) == ("A B", expected[:1], False)


@pytest.mark.parametrize("kind", sorted(SYNTAXES))
def test_call_is_known_as_soon_as_it_is_whole(kind: str) -> None:
    """With the last character of its last marker, however that came in pieces."""
    calls, text = ToolCallParser(SYNTAXES[kind], NAMES), WRITERS[kind]("add", {"a": 1})
    for char in text[:-1]:
        assert (calls.add(char), calls.calls) == ("", [])
    assert calls.in_call
    assert calls.add(text[-1]) == ""
    assert ([call.name for call in calls.calls], calls.in_call) == (["add"], False)


def test_llama_calls_are_the_whole_answer() -> None:
    """With the marker for code or without, several apart by semicolons; JSON that is no call is an answer."""
    one, two = llama("add", {"a": 1}), llama("get_weather", {"city": "Rome"})
    expected = [("add", {"a": 1}), ("get_weather", {"city": "Rome"})]
    assert run("llama", list(f"{one}; {two}")) == ("", expected, False)
    assert run("llama", list(f"<|python_tag|>{one}")) == ("", expected[:1], False)
    for answer in (f"So: {one}", '{"name": "unknown", "parameters": {}}', '{"a": [1, {"b": 2}]}', "{", "; {x}"):
        assert run("llama", list(answer)) == (answer, [], False)


@pytest.mark.parametrize("kind", ["hermes", "llama"])
def test_small_models_write_a_block_of_code_instead(kind: str) -> None:
    """Or nothing about it, as Qwen2.5-Coder does: a call if it is the whole answer and names a tool."""
    call = [("add", {"a": 1})]
    for key in ("arguments", "parameters"):
        written = json.dumps({"name": "add", key: {"a": 1}}, indent=2)
        assert run(kind, list(f"```json\n{written}\n```")) == ("", call, False)
        assert run(kind, list(f"```\n{written}\n```\n")) == ("", call, False)
        assert run(kind, list(f"```json\n{written}")) == ("", call, False)
        assert run(kind, list(written)) == ("", call, False)
        for answer in (
            f"So:\n```json\n{written}\n```",
            f"```python\n{written}\n```",
            f"```json\n[{written}]\n```",
            "```json\n{}\n```",
            "``",
        ):
            assert run(kind, list(answer)) == (answer, [], False)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("hermes", "<tool_call>\n{name: add}\n</tool_call>"),
        ("hermes", '<tool_call>{"arguments": {}}</tool_call>'),
        ("hermes", '<tool_call>{"name": 3}</tool_call>'),
        ("hermes", '<tool_call>{"name": "add", "arguments": [1]}</tool_call>'),
        ("hermes", '<tool_call>{"name": "add", "arguments": {"a": NaN}}</tool_call>'),
        ("hermes", '<tool_call>{"name": "add", "arguments": {"a": 1e999}}</tool_call>'),
        ("hermes", '<tool_call>{"name": "add", "arguments": {"a": "\\ud800"}}</tool_call>'),
        ("hermes", '<tool_call>{"name": "add"} and more</tool_call>'),
        ("hermes", "<tool_call>" + "[" * 100_000 + "</tool_call>"),
        ("hermes", "The marker is <tool_call>, as I said. "),
        ("hermes", '<tool_call>{"name": "add", "arguments": {"a": "'),
        ("gemma", "<|tool_call>call:add{a:Rome}<tool_call|>"),
        ("gemma", "<|tool_call>call:add(1)<tool_call|>"),
        ("gemma", "<|tool_call>call:add(a=b)<tool_call|>"),
        ("hermes", "<tool_call>add(1)</tool_call>"),
        ("hermes", "<tool_call>other(a=1)</tool_call>"),
        ("gemma", "<|tool_call>add{}<tool_call|>"),
        ("gemma", "<|tool_call>call:add{a:1<tool_call|>"),
        ("gemma", f"<|tool_call>call:add{{a:{Q}x"),
        ("gemma", "<|tool_call>call:add{a:" + "[" * 100_000 + "<tool_call|>"),
        ("gemma", "<|tool_call>call:add{a:" + "9" * 5000 + "}<tool_call|>"),
        ("gemma", "<|tool_call>call:add{:1}<tool_call|>"),
    ],
)
def test_malformed_calls_stay_text_and_are_told_of(kind: str, text: str) -> None:
    """To the last character, and the next call is still one."""
    assert run(kind, [text]) == (text, [], True)
    assert run(kind, list(text) if len(text) < 200 else [text[:50], text[50:]]) == (text, [], True)
    if text.endswith(("</tool_call>", "<tool_call|>")):
        good = WRITERS[kind]("add", {"a": 1})
        assert run(kind, [text, good]) == (text, [("add", {"a": 1})], True)


@pytest.mark.parametrize("kind", ["hermes", "gemma"])
def test_last_marker_may_be_missing_where_the_model_ended(kind: str) -> None:
    """A whole call counts if the model ended its turn, not if the budget cut the answer."""
    text = WRITERS[kind]("add", {"a": 1}).rpartition("<")[0].rstrip()
    assert run(kind, [text]) == ("", [("add", {"a": 1})], False)
    assert run(kind, [text], whole=False) == (text, [], True)


@pytest.mark.parametrize("kind", sorted(SYNTAXES))
@given(
    st.lists(st.sampled_from([
        "<tool_call>", "</tool_call>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "call:add{", "}", "{", Q,
        '{"name": "add", ', '"arguments": {}', '"parameters": {"a": 1}', "a:1", " ", "<", "tool_call>", "x", '"', "1",
        "\n", ".", "```", "json", "<|python_tag|>", ";", "-", "e", "tru",
    ]), max_size=14),
    st.lists(st.integers(0, 200), max_size=12),
)  # fmt: skip
@settings(max_examples=300)
def test_how_text_is_cut_changes_nothing_and_nothing_is_lost(kind: str, parts: list[str], places: list[int]) -> None:
    """Any splitting gives the same text and calls; without a call all of the text comes out."""
    said = "".join(parts)
    for whole in (True, False):
        text, calls, broken = run(kind, list(said), whole=whole)
        assert run(kind, cut(said, places), whole=whole) == (text, calls, broken)
        if not calls:
            assert text == said
        left = iter(said)
        assert all(char in left for char in text)


def test_long_calls_are_read_in_a_few_passes() -> None:
    """Not once for every token: 20,000 of them take well under a second of attempts."""
    attempts = 0

    class Counting(MarkedJson):
        def read(self, *args: Any) -> Any:
            nonlocal attempts
            attempts += 1
            return super().read(*args)

    calls = ToolCallParser(replace(HERMES, forms=(Counting("<tool_call>", ("</tool_call>",)),)), NAMES)
    text = hermes("add", {"a": "word " * 20_000})
    for at in range(0, len(text), 5):
        calls.add(text[at : at + 5])
    calls.flush(complete=True)
    assert [call.name for call in calls.calls] == ["add"]
    assert attempts <= 3


@given(objects)
def test_gemma_notation_is_what_its_template_writes(arguments: dict[str, Any]) -> None:
    """The real template's own rendering of a call reads back as its arguments."""
    template = ChatTemplate((DATA / "gemma-4.jinja").read_text())
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": arguments}}
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    text = template.render(messages, reply=False)
    start = text.index("<|tool_call>")
    body = text[start : text.index("<|tool_response>", text.rindex("<tool_call|>"))]
    assert run("gemma", [body]) == ("", [("add", arguments)], False)


def test_gemma_notation_refuses_and_waits_as_json_does() -> None:
    """Any beginning of an object waits for more; what no end could make right is refused."""
    text = f"{{a:{Q}x{Q},b:[1,-2.5e3,true,null],c:{{}}, d:{{e:false}}}}"
    assert read_object(text, 0)[0] == {"a": "x", "b": [1, -2500.0, True, None], "c": {}, "d": {"e": False}}
    for end in range(len(text)):
        with pytest.raises(IncompleteError):
            read_object(text[:end], 0)
    for wrong in ("[", "{a}", "{a:}", "{a:x}", "{a:1;", "{a:01}", "{a:1 b:2}", "{a:tru}"):
        with pytest.raises(MalformedError):
            read_object(wrong, 0)


def test_templates_tell_their_syntax() -> None:
    """The real ones; what is none of them has none."""
    assert find_syntax((DATA / "gemma-4.jinja").read_text()) is GEMMA
    assert find_syntax((DATA / "qwen2.5.jinja").read_text()) is HERMES
    assert find_syntax('{{- \'{"name": "\' + x }}{{- \'"parameters": \' }}') is LLAMA
    assert find_syntax("{{ messages }}") is None
    assert find_syntax("<tool_call><function=x><parameter=y>") is None
