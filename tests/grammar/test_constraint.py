"""Laws of the constraint: what may follow depends on the tokens alone, and an answer always ends within its budget."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import localspec
from localspec.chat.thinking import ThinkingMarkers
from localspec.engine import Engine
from localspec.errors import InputError, LocalspecError, MissingFeatureError, PromptTooLongError, UsageError
from localspec.grammar.answer import answer_grammar
from localspec.grammar.constraint import GrammarConstraint
from localspec.grammar.vocabulary import GrammarVocabulary
from localspec.params import SamplingParams
from localspec.testing import ScriptedDrafter, chain_logits, scripted_engine
from tests.helpers.grammar_support import SCHEMAS, format_of, grammar_of, random_answer, shortest, text_of, validate
from tests.helpers.support import MarkerVocabulary

PROMPT = [5, 6, 7]
OPEN = SamplingParams(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0)
BY_NAME = {item["name"]: item["schema"] for item in SCHEMAS}
SMALL = {
    "type": "object",
    "properties": {"on": {"type": "boolean"}, "n": {"type": "integer"}},
    "required": ["on", "n"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with localspec.load("tiny", "auto", threads=1) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def vocabulary(engine: Engine) -> GrammarVocabulary:
    return GrammarVocabulary(engine.vocabulary)


def constraint_of(vocabulary: GrammarVocabulary, schema: Any, budget: int = 1000, **more: Any) -> GrammarConstraint:
    return GrammarConstraint(vocabulary, grammar_of(schema), start=len(PROMPT), room=budget, **more)


def random_tokens(vocabulary: GrammarVocabulary, schema: Any, budget: int, seed: int) -> list[int]:
    params = SamplingParams(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=seed)
    return random_answer(constraint_of(vocabulary, schema, budget), vocabulary, params, PROMPT, budget)[0]


# Budget.


@pytest.mark.parametrize("number", range(0, len(SCHEMAS), 3))
def test_any_logits_any_budget_valid(vocabulary: GrammarVocabulary, number: int) -> None:
    """With random logits, for budgets from the least one up."""
    schema = SCHEMAS[number]["schema"]
    least = shortest(vocabulary, grammar_of(schema))
    for seed, more in enumerate((0, 1, 2, 5, 12, 30)):
        tokens = random_tokens(vocabulary, schema, least + more, seed)
        assert len(tokens) <= least + more
        validate(schema, text_of(vocabulary, tokens))


def test_an_optional_part_that_does_not_fit_is_not_begun(vocabulary: GrammarVocabulary) -> None:
    """Its eight members take more than what is left."""
    schema = BY_NAME["long optional part"]
    for seed in range(8):
        budget = 40 + seed
        text = text_of(vocabulary, random_tokens(vocabulary, schema, budget, seed))
        validate(schema, text)
        assert "form" not in text


def test_too_small_a_budget_is_refused_with_the_least(engine: Engine) -> None:
    """By the call, before anything is decoded; the least is enough."""
    with pytest.raises(InputError, match=r"max_tokens is 3; the shortest .* takes ") as caught:
        engine.stream("Once", response_format=format_of(SMALL), max_tokens=3)
    least = int(re.findall(r"\d+", str(caught.value))[1])
    done = engine.generate("Once", response_format=format_of(SMALL), max_tokens=least, temperature=0)
    validate(SMALL, done.text)
    assert len(done.tokens) <= least
    with pytest.raises(InputError):
        engine.stream("Once", response_format=format_of(SMALL), max_tokens=least - 1)


def test_a_full_context_is_told_as_such() -> None:
    """There the prompt is too long."""
    with (
        localspec.load("tiny", "none", threads=1, ctx_size=20) as small,
        pytest.raises(PromptTooLongError, match="leaves room for"),
    ):
        small.stream("Once upon a time there was", response_format=format_of(SMALL))


def test_why_an_answer_ended(engine: Engine) -> None:
    """``stop`` if the model ended it, also with its last token; ``length`` if the budget did."""
    schema = {"type": "string"}
    options: dict[str, Any] = {"temperature": 1.0, "seed": 3, "response_format": format_of(schema)}
    free = engine.generate("Once", **options, max_tokens=300)
    assert free.finish_reason == "stop"
    exact = engine.generate("Once", **options, max_tokens=len(free.tokens))
    assert (exact.tokens, exact.finish_reason) == (free.tokens, "stop")
    cut = engine.generate("Once", **options, max_tokens=len(free.tokens) // 2)
    assert cut.finish_reason == "length"
    validate(schema, cut.text)
    assert cut.notice is None


# A function of the tokens alone.


@pytest.mark.parametrize("name", ["address book", "recursive tree", "enum with escapes", "any value"])
def test_looking_ahead_changes_nothing(vocabulary: GrammarVocabulary, name: str) -> None:
    """Masks after wrong drafts, in any order, equal those of a constraint that saw nothing else."""
    schema, rng = BY_NAME[name], random.Random(name)
    budget = shortest(vocabulary, grammar_of(schema)) + 25
    answer, other = (random_tokens(vocabulary, schema, budget, seed) for seed in (1, 2))
    busy = constraint_of(vocabulary, schema, budget)
    for n in range(0, len(answer), 5):
        tokens = [*PROMPT, *answer[:n]]
        for _ in range(3):
            draft = [*answer[n : n + rng.randint(0, 3)], *other[: rng.randint(0, 3)]]
            busy.legal(tokens, draft)
            ahead = draft[: busy.legal(tokens, draft)]
            fresh = constraint_of(vocabulary, schema, budget)
            assert np.array_equal(busy.allowed(tokens, ahead), fresh.allowed([*tokens, *ahead]))
        assert busy.forced(tokens) == constraint_of(vocabulary, schema, budget).forced(tokens)


def test_forced_tokens_are_the_only_allowed_ones(vocabulary: GrammarVocabulary) -> None:
    """At each of their places, and nothing is forced where there is a choice."""
    for name in ("invoice", "weather", "const object"):
        schema = BY_NAME[name]
        answer = random_tokens(vocabulary, schema, 200, 4)
        constraint, forced_in_all = constraint_of(vocabulary, schema, 200), 0
        for n in range(len(answer)):
            tokens = [*PROMPT, *answer[:n]]
            run = constraint.forced(tokens)
            forced_in_all += bool(run)
            for k in range(len(run)):
                allowed = np.flatnonzero(constraint.allowed(tokens, run[:k]))
                assert list(allowed) == [run[k]] or set(allowed) == set(vocabulary.ends)
            assert np.count_nonzero(constraint.allowed(tokens, run)) > 1 or run[-1:] == (vocabulary.ends[0],)
        assert forced_in_all


def test_a_draft_is_cut_where_it_leaves_the_grammar(vocabulary: GrammarVocabulary) -> None:
    """It is also cut after an end token."""
    constraint = constraint_of(vocabulary, {"enum": ["yes"]})
    right = vocabulary.tokenize(b'"yes"')
    wrong = vocabulary.tokenize(b"}")[0]
    end = vocabulary.ends[0]
    assert constraint.legal(PROMPT, [*right, end, wrong]) == len(right) + 1
    assert constraint.legal(PROMPT, [*right, wrong]) == len(right)
    assert constraint.legal(PROMPT, [wrong, *right]) == 0
    assert constraint.legal(PROMPT, [end]) == 0


def test_end_tokens_exactly_when_complete(vocabulary: GrammarVocabulary) -> None:
    """``12`` may go on or end; ``1,`` may not end; a closed object may only end."""
    numbers = constraint_of(vocabulary, {"type": "integer"})
    end = vocabulary.ends[-1]
    assert not numbers.allowed(PROMPT)[end]
    two = numbers.allowed(PROMPT, vocabulary.tokenize(b"12"))
    assert two[end]
    assert np.count_nonzero(two) > len(vocabulary.ends)
    assert constraint_of(vocabulary, {"const": {}}).forced(PROMPT)[-1] == vocabulary.ends[0]


def test_markers_are_no_text() -> None:
    """A string in the answer never holds a channel marker or an end token as one token."""
    marked = MarkerVocabulary()
    grammars = GrammarVocabulary(marked)
    allowed = GrammarConstraint(grammars, grammar_of({"type": "string"}), start=0, room=50).allowed(list(b'"'))
    assert allowed[ord("a")]
    assert not any(allowed[marked.id(marker)] for marker in marked.markers)


# Thinking.


def markers_of(marked: MarkerVocabulary, **more: Any) -> ThinkingMarkers:
    return ThinkingMarkers({marked.id("<think>"): marked.id("</think>")}, **more)


def test_a_thought_is_free_and_the_answer_is_not() -> None:
    """It may come first where it is offered; the mask begins with the token after it."""
    marked = MarkerVocabulary()
    grammars, grammar = GrammarVocabulary(marked), grammar_of({"enum": ["yes", "no"]})
    opening, closing = marked.id("<think>"), marked.id("</think>")
    made = GrammarConstraint(grammars, grammar, start=0, room=50, thinking=markers_of(marked), may_think=True)
    assert set(np.flatnonzero(made.allowed([]))) == {opening, ord('"')}
    assert made.forced([]) == ()
    thinking = [opening, *b"is it?"]
    free = made.allowed(thinking)
    assert free[ord("x")]
    assert free[closing]
    assert not free[list(grammars.ends)].any()
    assert set(np.flatnonzero(made.allowed([*thinking, closing]))) == {ord('"')}
    assert made.forced([*thinking, closing]) == tuple(b'"')
    assert set(np.flatnonzero(made.allowed(list(b'"')))) == {ord("y"), ord("n")}


def test_a_thought_leaves_room_for_the_answer() -> None:
    """When there is room for the answer alone it is closed."""
    marked = MarkerVocabulary()
    grammars, grammar = GrammarVocabulary(marked), grammar_of({"enum": ["yes"]})
    closing = marked.id("</think>")
    made = GrammarConstraint(grammars, grammar, start=0, room=10, thinking=markers_of(marked, pending=closing))
    assert made.fits(list(b"abc"), (), ord("d"))
    assert not made.fits(list(b"abcd"), (), ord("x"))
    assert made.fits(list(b"abcd"), (), closing)
    assert made.ending_token(list(b"abcd"), ()) == closing
    assert made.forced([*b"abcd", closing]) == (*b'"yes"', grammars.ends[0])
    with pytest.raises(PromptTooLongError):
        GrammarConstraint(grammars, grammar, start=0, room=5, thinking=markers_of(marked, pending=closing))


# The engine with any drafter, without a model.


def test_a_drafter_that_is_always_wrong_changes_nothing() -> None:
    """Proposals that the grammar forbids change nothing either."""
    logits = chain_logits(MarkerVocabulary().n_tokens, seed=4)
    options: dict[str, Any] = {"response_format": format_of(SMALL), "max_tokens": 60, "seed": 1}
    texts = []
    for script in (lambda tokens: [], lambda tokens: [125] * 6, lambda tokens: list(b'true, "n": 1}')):
        vocabulary: Any = MarkerVocabulary()
        drafting = scripted_engine(logits, [ScriptedDrafter(script)], vocabulary=vocabulary)
        texts.append(drafting.generate("x", **options).text)
    validate(SMALL, texts[0])
    assert texts == texts[:1] * 3


# Options.


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"properties": {"a": {"not": {"type": "null"}}}}, "keyword 'not' at /properties/a"),
        ({"$defs": {"x": {"if": True}}, "$ref": "#/$defs/x"}, "'if' at /$defs/x"),
        ({"properties": {"a": {"type": "strin"}}}, "Invalid type: strin (at /properties/a)"),
        ({"items": {"pattern": "a["}}, "unclosed character class (at /items)"),
        ({"items": {"pattern": "(?=a"}}, "(at /items)"),
        ({"not": {}}, "anyOf is empty"),
        ({"properties": {"a": {"type": "array", "contains": {}}}}, "'contains' at /properties/a"),
        ({"$ref": "#/$defs/nowhere"}, "does not exist"),
        ({"$ref": "https://example.com/schema"}, "schema"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "minimum (5) is greater"),
        ({"properties": []}, "must map names to schemas"),
        ({"anyOf": {}}, "must be a list of schemas"),
        ({"items": 3}, "a schema is an object"),
        (False, "is false"),
        ("text", "must be a JSON object"),
    ],
)  # fmt: skip
def test_a_schema_that_cannot_be_followed_is_refused(schema: Any, message: str) -> None:
    """With the place, in one line, before any model."""
    with pytest.raises(InputError) as caught:
        answer_grammar(format_of(schema))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_deep_schemas_are_refused() -> None:
    """Not a RecursionError."""
    schema: dict[str, Any] = {}
    for _ in range(3000):
        schema = {"items": schema}
    with pytest.raises(InputError, match="nested too deeply"):
        answer_grammar(format_of(schema))


def test_words_without_effect_are_told_of(engine: Engine) -> None:
    """With the answer."""
    done = engine.generate("Once", response_format=format_of({"type": "boolean", "minlength": 3}), temperature=0)
    assert done.notice is not None
    assert "'minlength' at /" in done.notice


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"response_format": {"type": "xml"}}, "type 'xml'"),
        ({"response_format": {"type": "json_schema"}}, "has no schema"),
        ({"response_format": "json"}, "response_format is 'json'"),
        ({"grammar": 3}, "grammar is 'int'"),
        ({"grammar": "root ::= [a]", "response_format": {"type": "json_object"}}, "give one of them"),
        ({"grammar": "root ::= [a]", "stop": "x"}, "leave out stop"),
    ],
)
def test_options_of_another_shape_are_refused(engine: Engine, options: dict[str, Any], message: str) -> None:
    """When the call is made."""
    with pytest.raises(UsageError, match=re.escape(message)):
        engine.stream("Once", **options)


def test_all_shapes_of_a_format() -> None:
    """OpenAI's, llama-cpp-python's and llama-server's."""
    wanted = answer_grammar(format_of(SMALL))
    assert wanted is not None
    assert answer_grammar({"type": "json_object", "schema": SMALL}) == wanted
    assert answer_grammar({"type": "json_schema", "schema": SMALL}) == wanted
    assert answer_grammar({"type": "json_object"}) == answer_grammar(format_of({"type": "object"}))
    assert answer_grammar({"type": "text"}) is answer_grammar(None) is None


def test_structured_answers_call_no_tools(engine: Engine) -> None:
    """One or the other."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    with pytest.raises(LocalspecError):
        engine.stream_chat([{"role": "user", "content": "x"}], tools=[tool], response_format={"type": "json_object"})


def test_without_llguidance_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only if a structured answer is requested."""
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(MissingFeatureError, match="pip install llguidance"):
        answer_grammar({"type": "json_object"})


def test_llguidance_is_loaded_when_it_is_needed() -> None:
    """Not by the engine's import."""
    code = "import sys, localspec.loading; print('llguidance' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_an_interrupt_inside_the_tokenizer_is_an_interrupt(
    vocabulary: GrammarVocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """llguidance calls the tokenizer from Rust, and makes of what is raised there an error of its own."""

    def interrupt(data: bytes) -> list[int]:
        raise KeyboardInterrupt

    grammar = grammar_of(SMALL)
    with monkeypatch.context() as patch:
        patch.setattr(vocabulary, "tokenize", interrupt)
        with pytest.raises(KeyboardInterrupt):
            shortest(vocabulary, grammar)
    assert shortest(vocabulary, grammar) > 0
