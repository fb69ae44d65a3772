"""Laws of schemas that generators write: none is refused, and what an answer may lack is said.

``data/typed_models.json`` has the output of pydantic, zod, zod-to-json-schema and the two SDKs of OpenAI for a hundred
models, each with the model and the version that wrote it.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localspec.engine import Engine
from localspec.errors import InputError
from localspec.grammar.answer import answer_grammar
from localspec.grammar.constraint import GrammarConstraint
from localspec.grammar.vocabulary import GrammarVocabulary
from localspec.params import SamplingParams
from tests.helpers.grammar_support import format_of, grammar_of, random_answer, shortest, text_of, validate
from tests.helpers.support import load_fixed

MODELS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "data" / "typed_models.json").read_text(encoding="utf-8")
)
OPEN = SamplingParams(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=1)
MAIL = r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$"
DECIMAL = r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"
HOST = r"^(?=.{1,9}\.?$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9]+)*\.?$"


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with load_fixed("tiny", "none") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def vocabulary(engine: Engine) -> GrammarVocabulary:
    return GrammarVocabulary(engine.vocabulary)


def notices_of(schema: Any) -> str:
    found = answer_grammar(format_of(schema))
    assert found is not None
    return " ".join(found.notices)


def takes(vocabulary: GrammarVocabulary, schema: Any, value: Any) -> bool:
    """True if an answer may be ``value``, in the form that answers have."""
    matcher = vocabulary.matcher(grammar_of(schema))
    tokens = vocabulary.tokenize(json.dumps(value, ensure_ascii=False).encode())
    return matcher.try_consume_tokens(tokens) == len(tokens) and bool(matcher.is_accepting())


def test_enough_models() -> None:
    """Sixty at least, of each generator some, none twice."""
    assert len({json.dumps(item["schema"]) for item in MODELS}) == len(MODELS) >= 60
    sources = [re.split(r"[ ,]", item["from"])[0] for item in MODELS]
    assert {"pydantic", "zod", "zod-to-json-schema", "openai"} == set(sources)


@pytest.mark.parametrize("item", MODELS, ids=[item["name"] for item in MODELS])
def test_no_typed_model_is_refused(vocabulary: GrammarVocabulary, item: dict[str, Any]) -> None:
    """A random answer is valid; where a notice names a keyword, it is valid without that keyword."""
    schema = item["schema"]
    grammar, notice = grammar_of(schema), notices_of(schema)
    budget = shortest(vocabulary, grammar) + 12
    tokens, _ = random_answer(
        GrammarConstraint(vocabulary, grammar, start=1, room=budget), vocabulary, OPEN, [5], budget
    )
    validate(without(schema, notice), text_of(vocabulary, tokens))


def without(schema: Any, notice: str) -> Any:
    """``schema`` without the keywords that ``notice`` names, and without classes that Python's ``re`` has not."""
    if isinstance(schema, list):
        return [without(part, notice) for part in schema]
    if not isinstance(schema, dict):
        return schema
    left = {}
    for key, value in schema.items():
        name = "anyOf" if key == "oneOf" and "oneOf" in notice else key
        if (key == "pattern" and "\\p{" in value) or (isinstance(value, bool) and key.startswith("exclusive")):
            continue
        if re.search(rf"(?:generating:|,) {key}\b", notice):
            continue
        left[name] = without(value, notice)
    return left


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "array", "uniqueItems": True}, "uniqueItems at /."),
        ({"properties": {"a": {"type": "string", "format": "foo"}}}, "format 'foo' at /properties/a."),
        ({"properties": {"a": {"pattern": r"a(?=b)."}}}, r"pattern 'a(?=b).' at /properties/a."),
        ({"pattern": r"\bword\b"}, "at /."),
        ({"propertyNames": {"format": "date"}}, "propertyNames at /."),
        ({"properties": {"a": {}}, "propertyNames": {"maxLength": 3}}, "propertyNames at /."),
        ({"patternProperties": {"a(?=b)": {}}}, "patternProperties 'a(?=b)' at /."),
        ({"type": "number", "minimum": -1e300}, "minimum at /."),
        ({"items": [{"format": f"f{i}"} for i in range(20)]}, "and 12 more."),
        ({"oneOf": [{"type": "string"}, {"maxLength": 3}]}, "options of oneOf at / overlap"),
    ],
)
def test_what_is_not_enforced_is_said(schema: Any, words: str) -> None:
    """With its place, in one sentence, and in the words of nobody's options."""
    before = copy.deepcopy(schema)
    notice = notices_of(schema)
    assert words in notice
    assert "coerce" not in notice
    assert schema == before


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "format": "hex", "pattern": "^[0-9a-f]*$"},
        {"type": "integer", "format": "int64"},
        {"type": "object", "propertyNames": {"type": "string"}},
        {"uniqueItems": False},
        {"oneOf": [{"type": "string"}, {"type": "integer"}], "discriminator": {"propertyName": "x"}, "x-note": 1},
        {"type": "integer", "minimum": -(2**53), "maximum": 2**53},
    ],
)
def test_nothing_is_said_where_nothing_is_lost(schema: Any) -> None:
    """A pattern says what its format means, and a number has no format."""
    assert notices_of(schema) == ""


def test_the_notice_comes_with_the_answer(engine: Engine) -> None:
    """And the answer keeps the rest of the schema."""
    schema = {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "uniqueItems": True}
    done = engine.generate("Once", response_format=format_of(schema), temperature=0, max_tokens=20)
    assert done.notice is not None
    assert "uniqueItems at /" in done.notice
    assert len(json.loads(done.text)) >= 2


@pytest.mark.parametrize(
    ("pattern", "texts"),
    [
        (MAIL, ["a@b.co", ".a@b.co", "a.b@c.de", "a..b@c.de", "a.@b.co", "a@b", "a'b@c-d.ef.gh", "@b.co", "a@.co", ""]),
        (DECIMAL, ["1", "-1.5", "+.5", "5.", ".", "-", "", "+", "00.10", "1.2.3", "a"]),
        (HOST, ["a.b", "abcdefghi", "abcdefghij", "abcdefghi.", "a-", "-a", "a..b", ""]),
    ],
)
def test_look_ahead_of_the_common_generators_is_kept(
    vocabulary: GrammarVocabulary, pattern: str, texts: list[str]
) -> None:
    """By other patterns, which match the same texts."""
    schema = {"type": "string", "pattern": pattern}
    assert notices_of(schema) == ""
    for text in texts:
        assert takes(vocabulary, schema, text) == bool(re.search(pattern, text)), text


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("uuid4", "123e4567-e89b-42d3-a456-426614174000", "123e4567-e89b-12d3-a456-426614174000"),
        ("uuid7", "123E4567-E89B-72D3-8456-426614174000", "x"),
        ("base64", "aGVsbG8=", "aGVsbG8"),
    ],
)
def test_formats_of_common_generators_have_patterns(
    vocabulary: GrammarVocabulary, kind: str, right: str, wrong: str
) -> None:
    """Where llguidance does not know them."""
    schema = {"type": "string", "format": kind}
    assert notices_of(schema) == ""
    assert takes(vocabulary, schema, right)
    assert not takes(vocabulary, schema, wrong)


def test_a_member_for_no_value_is_absent(vocabulary: GrammarVocabulary) -> None:
    """A list of nothing is empty."""
    schema = {"type": "object", "properties": {"a": {"not": {}}, "b": {"type": "array", "items": {"not": {}}}}}
    schema["additionalProperties"] = False
    assert takes(vocabulary, schema, {"b": []})
    assert takes(vocabulary, schema, {})
    assert not takes(vocabulary, schema, {"a": 1})
    assert not takes(vocabulary, schema, {"b": [1]})


@pytest.mark.parametrize(
    ("rule", "right", "wrong"),
    [
        ({"type": "string", "enum": ["a", "b"]}, "b", "c"),
        ({"const": "a"}, "a", "b"),
        ({"$ref": "#/$defs/Name"}, "red", "blue"),
        ({"pattern": "^x-"}, "x-y", "y"),
        ({"minLength": 2, "maxLength": 3}, "ab", "abcd"),
        ({"minLength": 2}, "abcdef", "a"),
        ({"format": "uuid"}, "123e4567-e89b-12d3-a456-426614174000", "x"),
    ],
)
def test_names_of_a_record_follow_their_schema(
    vocabulary: GrammarVocabulary, rule: dict[str, Any], right: str, wrong: str
) -> None:
    """And their values that of the values."""
    schema = {
        "type": "object",
        "propertyNames": rule,
        "additionalProperties": {"type": "integer"},
        "$defs": {"Name": {"enum": ["red"]}},
    }
    assert notices_of(schema) == ""
    assert takes(vocabulary, schema, {right: 1})
    assert not takes(vocabulary, schema, {right: "one"})
    assert not takes(vocabulary, schema, {wrong: 1})


def test_an_ending_with_a_certain_letter_is_found(vocabulary: GrammarVocabulary) -> None:
    """The answer then keeps its budget."""
    texts = {name: {"type": "string", "pattern": f"{name}$"} for name in "zqj"}
    schema = {"type": "object", "properties": texts, "required": list(texts), "additionalProperties": False}
    assert shortest(vocabulary, grammar_of(schema)) < 60


@pytest.mark.parametrize("length", [3000, 40_000])
def test_a_chain_of_definitions_does_not_end_the_process(vocabulary: GrammarVocabulary, length: int) -> None:
    """It is followed, or refused in a sentence."""
    definitions: dict[str, Any] = {f"a{i}": {"$ref": f"#/$defs/a{i + 1}"} for i in range(length)}
    schema = {"$ref": "#/$defs/a0", "$defs": {**definitions, f"a{length}": {"type": "integer"}}}
    if length < 30_000:
        assert takes(vocabulary, schema, 12)
    else:
        with pytest.raises(InputError, match="more than 30000 parts"):
            answer_grammar(format_of(schema))


@pytest.mark.parametrize("part", [{"allOf": 3, "pattern": "(?=a)b"}, {"type": 3, "format": "foo"}])
def test_malformed_values_are_refused_with_their_place(part: dict[str, Any]) -> None:
    """Not with the words of an exception of Python."""
    with pytest.raises(InputError) as caught:
        answer_grammar(format_of({"properties": {"a": part}}))
    assert "/properties/a" in str(caught.value)
    assert "JSON:" not in str(caught.value)
