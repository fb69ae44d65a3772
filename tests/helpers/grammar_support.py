"""Shared by the tests of structured answers: schemas, grammars, engines, and a loop without a model."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import numpy as np

from localspec.grammar.answer import answer_grammar
from localspec.grammar.constraint import GrammarConstraint
from localspec.grammar.ending import find_ending
from localspec.grammar.vocabulary import GrammarVocabulary
from localspec.params import SamplingParams
from localspec.sampling import Sampler
from tests.helpers.paths import DATA

SCHEMAS: list[dict[str, Any]] = json.loads((DATA / "schemas.json").read_text(encoding="utf-8"))
GRAMMARS: list[dict[str, Any]] = json.loads((DATA / "grammars.json").read_text(encoding="utf-8"))["grammars"]
#: jsonschema's check of "time" is Python's, without the time zone that RFC 3339 asks for.
FORMATS = jsonschema.FormatChecker(set(jsonschema.FormatChecker.checkers) - {"time"})


def format_of(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"schema": schema}}


def grammar_of(schema: Any) -> str:
    found = answer_grammar(format_of(schema))
    assert found
    return found.grammar


def shortest(vocabulary: GrammarVocabulary, grammar: str) -> int:
    """Number of tokens of the shortest answer that the engine finds."""
    way = find_ending(vocabulary.matcher(grammar), vocabulary, 1)
    assert way is not None
    return len(way)


def validate(schema: Any, text: str) -> None:
    kind = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    kind(schema, format_checker=FORMATS).validate(json.loads(text))


def random_answer(
    constraint: GrammarConstraint, vocabulary: GrammarVocabulary, params: SamplingParams, prompt: list[int], budget: int
) -> tuple[list[int], bool]:
    """Tokens by random logits, one at a time, and whether an end token ended them."""
    rng, sampler = np.random.default_rng(params.seed), Sampler(params, constraint)
    tokens = list(prompt)
    while len(tokens) - len(prompt) < budget:
        row = rng.normal(0.0, 3.0, vocabulary.n_tokens).astype(np.float32)
        token = sampler.pick(row, tokens)
        if token in vocabulary.ends:
            return tokens[len(prompt) :], True
        tokens.append(token)
    return tokens[len(prompt) :], False


def text_of(vocabulary: GrammarVocabulary, tokens: list[int]) -> str:
    return b"".join(vocabulary.pieces[token] for token in tokens).decode()
