"""Laws of calls that are sent while they are written: what is sent is the beginning of what they turn out to be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localspec.chat.call_parts import ArgumentsWriter
from localspec.chat.call_syntax import GEMMA, HERMES, LLAMA, CallSyntax, to_json
from localspec.chat.call_values import MalformedError, read_json
from localspec.chat.tool_calls import ToolCallParser

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
KEYS = st.text("abc_é", min_size=1, max_size=5)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=4)
CUTS = st.lists(st.integers(1, 9), max_size=40)


def gemma(value: Any) -> str:
    """A value as Gemma's template writes it."""
    if isinstance(value, str):
        return f'<|"|>{value}<|"|>'
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{gemma(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(gemma, value)) + "]"
    return str(value) if value is None else json.dumps(value)


def pieces(text: str, cuts: list[int]) -> list[str]:
    found, at = [], 0
    for cut in cuts:
        found.append(text[at : at + cut])
        at += cut
    return [*found, text[at:]]


@given(OBJECTS, CUTS, st.sampled_from([None, 0, 2]), st.booleans())
def test_json_is_written_as_it_comes(
    value: dict[str, Any], cuts: list[int], indent: int | None, ascii_only: bool
) -> None:
    """However it is spaced, escaped and cut: the whole is the text that the call has in the end."""
    writer = ArgumentsWriter()
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert "".join(writer.add(piece) for piece in pieces(text, cuts)) == writer.written == to_json(value)


@given(OBJECTS, CUTS)
def test_gemmas_notation_is_written_as_json(value: dict[str, Any], cuts: list[int]) -> None:
    """Its strings have no escapes, its keys no quotation marks."""
    if '<|"|>' in gemma(value).replace('<|"|>', ""):
        return
    writer = ArgumentsWriter()
    assert "".join(writer.add(piece) for piece in pieces(gemma(value), cuts)) == to_json(value)


@given(st.text("{}[]\":,\\ 'abu0dN1.e-=<|>tru\n", max_size=30))
def test_what_is_not_json_ends_what_is_written(text: str) -> None:
    """It never raises, and does not take back what it wrote; what is complete and has one key each is what is read."""
    writer, before = ArgumentsWriter(), ""
    for sign in "{" + text:
        writer.add(sign)
        assert writer.written.startswith(before)
        before = writer.written
    try:
        strict = json.loads("{" + text, parse_constant=lambda name: 1 / 0)
    except (ValueError, ZeroDivisionError, RecursionError):
        return
    try:
        whole = to_json(read_json("{" + text, 0)[0])
    except MalformedError:
        return
    assert before == whole or len(strict) < before.count(":")


@pytest.mark.parametrize(
    ("syntax", "text", "certain", "written"),
    [
        (HERMES, '<tool_call>{"name": "f", "arguments": {"a": "x', False, ("f", '{"a": "x')),
        (HERMES, '<tool_call>{"name": "f", "arguments": {"a": "x\\u00', False, ("f", '{"a": "x')),
        (HERMES, '<tool_call>{"name": "ns.f", "arguments": {"a": 1', False, ("f", '{"a": ')),
        (HERMES, '<tool_call>{"name": "other", "arguments": {"a": 1, ', False, None),
        (HERMES, '<tool_call>{"arguments": {"a": 1, ', False, None),
        (HERMES, '<tool_call>{"name": "f", "arguments": "{', False, None),
        (HERMES, '{"name": "f", "arguments": {"a": 1, ', False, None),
        (LLAMA, '{"name": "f", "parameters": {"a": 1, ', False, None),
        (LLAMA, '{"name": "f", "parameters": {"a": 1, ', True, ("f", '{"a": 1')),
        (GEMMA, '<|tool_call>call:f{a:<|"|>x<', False, ("f", '{"a": "x')),
    ],
)
def test_a_call_is_told_as_soon_as_it_is_one(syntax: CallSyntax, text: str, certain: bool, written: Any) -> None:
    """Of a known tool, behind a marker or forced, with its name first; anything else may still turn out to be text."""
    parser = ToolCallParser(syntax, ["f"], certain=certain)
    parser.add(text)
    parts = parser.take_parts()
    found = (parts[0].name, "".join(part.arguments for part in parts)) if parts else None
    assert found == written
    assert parser.take_parts() == ()
