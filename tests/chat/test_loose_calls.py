r"""Laws of calls as models write them: JSON stays JSON, loose writings are what was meant, ambiguous ones are text."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localspec.chat.call_values import IncompleteError, read_json
from localspec.chat.loose_calls import quoted, tool_name, unescape
from tests.chat.test_tool_calls import WRITERS, Q, cut, objects, run, values

plain = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
words = st.text("abc é-'.", max_size=8)
#: Parts of Windows paths: many begin with a letter that makes a JSON escape behind a backslash.
folders = st.lists(st.sampled_from(["Users", "new", "temp", "rolf", "my files", "a.txt", "build", "f1"]), min_size=1)
paths = st.builds(
    lambda start, parts: start + "\\".join(["", *parts]), st.sampled_from(["C:", "d:", "\\\\nas"]), folders
)
#: Texts with backslashes that JSON does not have, and none that it has.
patterns = st.lists(st.sampled_from([r"\d+", r"\s", r"\w*", r"\.", r"\(", "a", " ", "[x]", "^", "$"]), max_size=6).map(
    "".join
)


def marked(arguments: str) -> str:
    return f'<tool_call>{{"name": "add", "arguments": {arguments}}}</tool_call>'


def loose(written: str) -> Any:
    """The arguments that a call with ``written`` arguments is read with, None if it stays text with a notice."""
    said = marked(written)
    whole = run("hermes", [said])
    assert run("hermes", list(said)) == whole
    text, calls, malformed = whole
    assert (text, bool(calls)) in (("", True), (said, False))
    assert malformed != bool(calls)
    return calls[0][1] if calls else None


def raw_string(text: str, quote: str = '"') -> str:
    """A string as a model writes it that escapes nothing but the quote."""
    return quote + text.replace(quote, f"\\{quote}") + quote


# JSON.


@given(objects)
@settings(max_examples=200)
def test_what_json_dumps_writes_is_read_as_itself(arguments: dict[str, Any]) -> None:
    """With and without ASCII escapes, compact and indented."""
    for options in ({}, {"ensure_ascii": False}, {"indent": 1}, {"separators": (",", ":")}):
        assert loose(json.dumps(arguments, **options)) == arguments  # type: ignore[arg-type]


@given(st.text('\\nrtbfu0041"/dC: ', max_size=12))
@settings(max_examples=300)
def test_what_json_reads_is_never_read_otherwise(inside: str) -> None:
    r"""Any string that is JSON has JSON's reading, ``"C:\new"`` too."""
    try:
        expected = json.loads(f'{{"a": "{inside}"}}')
    except ValueError:
        return
    assert loose(f'{{"a": "{inside}"}}') == expected


@given(values, st.integers(0, 200))
def test_any_beginning_of_json_waits_for_more(value: Any, end: int) -> None:
    """A call that streams is not given up before its end."""
    text = json.dumps({"a": value}, ensure_ascii=False)
    with pytest.raises(IncompleteError):
        read_json(text[: end % len(text)], 0)


def test_deep_json_in_pieces_is_that_in_one() -> None:
    """Deeper than loose writings are read."""
    deep = f'{{"a": {"[" * 90}"</tool_call>"{"]" * 90}}}'
    assert loose(deep) == json.loads(deep)


# Loose writings with one meaning.


@given(st.dictionaries(words, plain.map(lambda text: text.replace("\\", "")), max_size=3))
def test_raw_line_ends_and_other_raw_characters(arguments: dict[str, str]) -> None:
    """As if they were escaped."""
    written = ", ".join(f"{json.dumps(key)}: {raw_string(text)}" for key, text in arguments.items())
    assert loose(f"{{{written}}}") == arguments


@given(paths)
def test_backslashes_of_windows_paths(path: str) -> None:
    r"""All of them, if one is not an escape of JSON. If all are escapes, the path is JSON and read as JSON."""
    written = raw_string(path)
    try:
        expected = json.loads(written)
    except ValueError:
        expected = path
    assert loose(f'{{"path": {written}}}') == {"path": expected}
    assert loose(json.dumps({"path": path})) == {"path": path}


@given(patterns)
def test_backslashes_that_are_no_escapes(pattern: str) -> None:
    """As in regular expressions."""
    assert loose(f'{{"a": {raw_string(pattern)}}}') == {"a": pattern}
    assert loose(f'{{"a": {json.dumps(pattern)}}}') == {"a": pattern}


def test_known_backslashes() -> None:
    """One each."""
    for written, meant in (
        (r"C:\Users\new\file.txt", r"C:\Users\new\file.txt"),
        (r"C:\Program Files\x", r"C:\Program Files\x"),
        (r"\\nas\share\new", r"\\nas\share\new"),
        (r"C:\new", "C:\new"),
        (r"C:\\Users\\new", r"C:\Users\new"),
        (r"\d+\bx", r"\d+\bx"),
        (r"it\'s", "it's"),
        (r"say \"\d\"", r'say "\d"'),
        (r"\ud83d\ude00", "😀"),
        (r"\users", r"\users"),
        ("a \\\n b", "a \\\n b"),
    ):
        assert unescape(written) == meant


@given(st.dictionaries(words, st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=6,
), max_size=3))  # fmt: skip
@settings(max_examples=200)
def test_python_s_literals(arguments: dict[str, Any]) -> None:
    """Single quotes or ordinary ones, True, False and None."""
    assert loose(repr(arguments)) == arguments


@given(objects)
def test_comma_before_the_end(arguments: dict[str, Any]) -> None:
    """One, also in lists and inner objects, and outside of strings only."""
    written = json.dumps(arguments, indent=1)
    assert loose(re.sub(r'(?<=[\]}"\w])\n(\s*[\]}])', r",\n\1", written)) == arguments


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("gemma", '<|tool_call>call:add{{a:{Q}x{Q},b:1}}<tool_call|>'),
        ("gemma", '<|tool_call>call:add{{"a":"x","b":1}}<tool_call|>'),
        ("gemma", "<|tool_call>call:add{{'a': 'x', b: 1,}}<tool_call|>"),
        ("gemma", '<|tool_call>call:add{{a="x", b=1}}<tool_call|>'),
        ("gemma", "<|tool_call>call:add(a='x', b=1)<tool_call|>"),
        ("gemma", "<|tool_call>call:add({Q}a{Q}={Q}x{Q},b=1,)<tool_call|>"),
        ("gemma", "<|tool_call>call: functions.add {{a:{Q}x{Q},b:1}}<tool_call|>"),
        ("hermes", '<tool_call>add(a="x", b=1)</tool_call>'),
        ("hermes", "<tool_call>\ntools.add(a='x', b=1)\n</tool_call>"),
        ("hermes", "<tool_call>{{'name': 'add', 'arguments': {{'a': 'x', 'b': 1}}}}</tool_call>"),
        ("hermes", '<tool_call>{{name: "add", arguments: {{a="x", b=1}}}}</tool_call>'),
        ("hermes", '<tool_call>{{"name": "functions.add", "arguments": {{"a": "x", "b": 1}}}}</tool_call>'),
        ("hermes", "{{'name': 'add', 'arguments': {{'a': 'x', 'b': 1}}}}"),
        ("llama", '{{"name": "functions.add", "parameters": {{"a": "x", "b": 1}}}}'),
    ],
)  # fmt: skip
def test_quotes_names_and_namespaces(kind: str, said: str) -> None:
    """The same call, in one piece or in many."""
    said = said.format(Q=Q)
    assert run(kind, [said]) == ("", [("add", {"a": "x", "b": 1})], False)
    assert run(kind, list(said)) == run(kind, [said])


# What is ambiguous, or no call.


@pytest.mark.parametrize(
    "written",
    [
        r'{"a": "\d\n"}',
        r'{"a": "\d\u0041"}',
        r'{"a": "\\d \d"}',
        r'{"a": "C:\\Users\dir"}',
        r'{"a": "\\d\d"}',
        "{'a': 'it's'}",
        '{"a": "say "hi""}',
        '{"a": x}',
        "{'a': nope}",
        '{"a": 1 "b": 2}',
        '{"a": 1,,}',
        "{,}",
        '{"a": [,]}',
        '{"a"}',
        '{"a": 1=2}',
        '{"a": tRUE}',
        '{"a": 0x10}',
        '{"a": .5}',
    ],
)
def test_what_is_not_certain_stays_text_with_a_notice(written: str) -> None:
    """In any pieces; the next call is still one."""
    assert loose(written) is None
    said = marked(written) + marked("{}")
    assert run("hermes", list(said)) == (marked(written), [("add", {})], True)


@given(st.text("\\dnu\"' C:U\n", max_size=10), st.lists(st.integers(0, 200), max_size=9))
@settings(max_examples=300)
def test_any_string_is_read_alike_in_any_pieces(inside: str, places: list[int]) -> None:
    """As the same text, or as no call."""
    for quote in "\"'":
        said = marked(f"{{'a': {quote}{inside}{quote}}}")
        whole = run("hermes", [said])
        assert run("hermes", cut(said, places)) == whole
        if whole[1]:
            found = quoted(f"{quote}{inside}{quote}", 0)
            assert found is not None
            assert whole[1][0][1] == {"a": unescape(found[0])}


@pytest.mark.parametrize("kind", ["hermes", "llama"])
@pytest.mark.parametrize("before", ["", "\n", "; "])
@given(places=st.lists(st.integers(0, 200), max_size=9))
@settings(max_examples=20)
def test_sentence_after_bare_json_makes_it_no_call(kind: str, before: str, places: list[int]) -> None:
    """Nor those before it; a line end, a semicolon or another call does not. It is no broken call either."""
    one, two = WRITERS["llama"]("add", {"a": 1}), WRITERS["llama"]("get_weather", {})
    fenced = f"```json\n{one}\n```"
    calls = [("add", {"a": 1})]
    for said in (f"{one}{before}This adds.", f"{one}; {two}{before}.", f"{fenced}{before}This adds.", f"{one}{{"):
        for whole in (True, False):
            assert run(kind, cut(said, places), whole=whole) == (said, [], False)
    for said in (f"{one}{before}", f"{fenced}{before}"):
        assert run(kind, cut(said, places)) == ("", calls, False)
    assert run(kind, cut(f"{one}; {two}", places)) == ("", [*calls, ("get_weather", {})], False)
    if kind == "hermes":
        said = f"{one}{before}{WRITERS['hermes']('get_weather', {})} Done."
        assert run(kind, cut(said, places))[1][-1] == ("get_weather", {})


@pytest.mark.parametrize(
    ("name", "names", "found"),
    [
        ("add", ["add"], "add"),
        ("functions.add", ["add"], "add"),
        ("default_api:add", ["add"], "add"),
        ("a/b.add", ["add"], "add"),
        ("a.add", ["a.add", "add"], "a.add"),
        ("x.a.add", ["a.add", "add"], "x.a.add"),
        ("x.a.add", ["a.add"], "a.add"),
        ("functions.other", ["add"], "functions.other"),
        ("myadd", ["add"], "myadd"),
        ("add.", ["add"], "add."),
        ("", ["add"], ""),
    ],
)
def test_namespace_is_left_out_if_one_tool_is_meant(name: str, names: list[str], found: str) -> None:
    """A tool whose own name has one comes first; two that could be meant are none."""
    assert tool_name(name, names) == found
