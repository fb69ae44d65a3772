"""Laws of calls that are forced: they are calls of the tools that were named, by their schemas, whatever drafts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localspec.chat.call_syntax import GEMMA, HERMES, LLAMA, CallSyntax
from localspec.chat.template import ChatTemplate
from localspec.chat.tool_calls import ToolCallParser
from localspec.draft.ngram import NgramDrafter
from localspec.engine import Engine, ModelInfo
from localspec.errors import InputError, UsageError
from localspec.generation.pair import Pair, Setup
from localspec.generation.result import Completion
from localspec.grammar.calls import call_grammar
from localspec.grammar.constraint import GrammarConstraint
from localspec.grammar.vocabulary import GrammarVocabulary
from localspec.testing import ScriptedContext, ScriptedDrafter, chain_logits
from tests.chat.test_tools import CALLS, FAMILIES, TEMPLATES, THOUGHTS, VOCABULARY, drafters_of, engine_saying, user

LLAMA_TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if tools %}{{ tools | tojson }}{% endif %}"
    '{% if false %}{{ \'{"name": "\' + \'"parameters": \' }}{% endif %}'
)
ALL = {**TEMPLATES, "llama": LLAMA_TEMPLATE}
SYNTAXES: dict[str, CallSyntax] = {"gemma": GEMMA, "qwen": HERMES, "llama": LLAMA}
GRAMMARS = GrammarVocabulary(VOCABULARY)
PLACE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
        "unit": {"enum": ["C", "F", None]},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "maxItems": 2},
        "deep": {"anyOf": [{"type": "null"}, {"type": "object", "properties": {"on": {"type": "boolean"}}}]},
    },
    "required": ["city", "unit"],
    "$defs": {"tag": {"type": "string", "maxLength": 3}},
}
ANY: dict[str, Any] = {"type": "object"}
NONE: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}


def tool(name: str, parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": "d", "parameters": parameters}}


SCHEMAS = {"place": PLACE, "any": ANY, "none": NONE}
TOOLS = [tool(name, schema) for name, schema in SCHEMAS.items()]


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def engine_of(family: str, seed: int, drafters: list[Any]) -> Engine:
    """An engine that knows nothing of calls: its logits are noise."""
    target = ScriptedContext(chain_logits(VOCABULARY.n_tokens, seed, scale=4.0), VOCABULARY.n_tokens)
    info = ModelInfo("scripted", Path("scripted"), "scripted", "scripted", 0, 0, 4096, VOCABULARY.n_tokens)
    return Engine(
        Pair(target, VOCABULARY, tuple(drafters)), Setup("exact"), model=info, template=ChatTemplate(ALL[family])
    )


def forced(family: str, seed: int, width: int, drafters: list[Any], **options: Any) -> Completion:
    with engine_of(family, seed, drafters) as engine:
        return engine.chat([user("Rome?")], tools=TOOLS, max_tokens=90, draft_max=width, seed=seed, **options)


@pytest.mark.parametrize("family", sorted(ALL))
@given(
    seed=st.integers(0, 99),
    choice=st.sampled_from(["required", *map(named, SCHEMAS)]),
    several=st.booleans(),
    temperature=st.sampled_from([0.0, 1.0]),
)
@settings(max_examples=4, deadline=None)
def test_a_forced_answer_is_calls_by_their_schemas(
    family: str, seed: int, choice: Any, several: bool, temperature: float
) -> None:
    """And nothing else, with the tokens that it has without drafts."""
    options = {"tool_choice": choice, "parallel_tool_calls": several, "temperature": temperature}
    done = forced(family, seed, 0, [], **options)
    assert (done.text, bool(done.tool_calls)) == ("", True)
    assert done.finish_reason in ("tool_calls", "length")
    for call in done.tool_calls:
        name, arguments = call["function"]["name"], json.loads(call["function"]["arguments"])
        jsonschema.validate(arguments, SCHEMAS[name])
        assert done.notice is None
        assert choice == "required" or name == choice["function"]["name"]
    if not several or family == "llama" or choice != "required":
        assert len(done.tool_calls) == 1
    for kind, width in (("ngram", 3), ("scripted", 8)):
        other = forced(family, seed, width, drafters_of(kind), **options)
        assert (other.tokens, other.tool_calls) == (done.tokens, done.tool_calls)
        assert other.stats.steps <= done.stats.steps


@pytest.mark.parametrize("family", sorted(SYNTAXES))
def test_what_a_template_writes_is_legal(family: str) -> None:
    """Every token of it, and of several calls where the syntax has them."""
    own = CALLS.get(family, '{"name": "get_weather", "parameters": {"city": "Rome"}}')
    joint = SYNTAXES[family].written.between_calls
    city = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    functions = [{"name": "get_weather", "parameters": city}, {"name": "other"}]
    grammar = call_grammar(SYNTAXES[family], functions, VOCABULARY, several=True).grammar
    for text in (own, *([] if joint is None else [own + joint + own])):
        tokens = VOCABULARY.tokenize(text, add_special=False)
        tokens.append(VOCABULARY.id("<turn|>"))
        constraint = GrammarConstraint(GRAMMARS, grammar, start=0, room=4000)
        assert constraint.legal([], tokens) == len(tokens)
        parser = ToolCallParser(SYNTAXES[family], ["get_weather"])
        assert parser.add(text) + parser.flush(complete=True) == ""
        assert {call.arguments for call in parser.calls} == {'{"city": "Rome"}'}


@pytest.mark.parametrize("family", FAMILIES)
def test_thinking_comes_before_a_forced_call(family: str) -> None:
    """The grammar begins behind the thought."""
    with engine_saying(family, [THOUGHTS[family] + CALLS[family]], [NgramDrafter(min_match=1)]) as engine:
        tools = [tool("get_weather", ANY)]
        done = engine.chat([user("x")], thinking=True, tools=tools, tool_choice="required", temperature=0)
    assert (done.thought.strip(), done.text, len(done.tool_calls)) == ("The city.", "", 1)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("width", [0, 8])
def test_an_answer_without_parallel_calls_ends_with_the_first(family: str, width: int) -> None:
    """Also where nothing is forced, and whatever a pass has drafted beyond it."""
    joint = "\n" if family == "qwen" else ""
    script = VOCABULARY.tokenize(f"Hm. {CALLS[family]}{joint}{CALLS[family]}", add_special=False)
    drafter = ScriptedDrafter(lambda tokens: script[tokens.count(script[0]) and 1 :])
    with engine_saying(family, [f"Hm. {CALLS[family]}{joint}{CALLS[family]}"], [drafter]) as engine:
        options: dict[str, Any] = {"tools": [tool("get_weather", ANY)], "temperature": 0, "draft_max": width}
        done = engine.chat([user("x")], parallel_tool_calls=False, **options)
    assert (done.text, len(done.tool_calls), done.finish_reason) == ("Hm. ".strip(), 1, "tool_calls")


def test_allowed_tools_are_those_of_an_answer() -> None:
    """Forced ones are all in the prompt, which stays in the cache; others are not offered."""
    names = [named("any"), named("none")]
    for mode in ("required", "auto"):
        with engine_of("qwen", 1, []) as engine:
            choice = {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": names}}
            done = engine.chat([user("x")], tools=TOOLS, tool_choice=choice, max_tokens=60, seed=1)
            everything = len(engine.prompt_tokens([user("x")], tools=TOOLS))
        assert (done.stats.prompt_tokens == everything) == (mode == "required")
        assert all(call["function"]["name"] in ("any", "none") for call in done.tool_calls)
        assert bool(done.tool_calls) >= (mode == "required")


def test_what_cannot_be_forced_is_an_error() -> None:
    """With its name, before a pass is made."""
    bad = tool("bad", {"type": "object", "properties": {"a": {"not": {"type": "string"}}}})
    with engine_of("gemma", 0, []) as engine:

        def error(kind: Any, match: str, **options: Any) -> None:
            with pytest.raises(kind, match=match):
                engine.chat([user("x")], **options)

        error(UsageError, "'nothing'", tools=TOOLS, tool_choice=named("nothing"))
        error(UsageError, "the tools are: none", tool_choice="required")
        error(UsageError, "tool_choice is 'always'", tools=TOOLS, tool_choice="always")
        error(UsageError, "parallel_tool_calls", tools=TOOLS, parallel_tool_calls="no")
        error(InputError, "parameters of bad has the keyword 'not'", tools=[bad], tool_choice="required")
        error(InputError, "arguments are an object", tools=[tool("b", {"type": "array"})], tool_choice="required")
        error(InputError, "cannot call", tools=[tool("a b", {})], tool_choice="required")
        error(InputError, "Allow at least", tools=TOOLS, tool_choice=named("place"), max_tokens=5)
        assert engine._target.tokens == []
