"""Laws of answers that a JSON schema describes, on the built-in pair: valid, and the same with any drafter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from localspec.engine import Engine
from localspec.grammar.vocabulary import GrammarVocabulary
from tests.helpers.grammar_support import SCHEMAS, format_of, grammar_of, shortest, validate
from tests.helpers.support import load_fixed

MESSAGES = [{"role": "user", "content": "Tell me about your cat, as data."}]
NAMES = [item["name"] for item in SCHEMAS]
SEEDED: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.02}


@pytest.fixture(scope="module")
def engines() -> Iterator[dict[str, Engine]]:
    loaded = {draft: load_fixed("tiny", draft) for draft in ("none", "ngram", "auto")}
    yield loaded
    for engine in loaded.values():
        engine.close()


@pytest.fixture(scope="module")
def vocabulary(engines: dict[str, Engine]) -> GrammarVocabulary:
    return GrammarVocabulary(engines["none"].vocabulary)


def test_enough_schemas() -> None:
    """Fifty at least, none twice."""
    assert len({str(item["schema"]) for item in SCHEMAS}) == len(SCHEMAS) >= 50


@pytest.mark.parametrize("number", range(len(SCHEMAS)), ids=NAMES)
def test_any_drafter_same_valid_answer(engines: dict[str, Engine], vocabulary: GrammarVocabulary, number: int) -> None:
    """Greedy and sampled, with a budget to spare and with hardly any."""
    schema = SCHEMAS[number]["schema"]
    least = shortest(vocabulary, grammar_of(schema))
    greedy: dict[str, Any] = {"temperature": 0}
    seeded = {**SEEDED, "seed": number}
    roomy, tight = (greedy, seeded) if number % 2 else (seeded, greedy)
    drafts = ("none", "auto", "ngram") if number % 4 == 0 else ("none", "auto")
    for options in ({**roomy, "max_tokens": least + 40}, {**tight, "max_tokens": least + number % 3}):
        done = {draft: engines[draft].chat(MESSAGES, response_format=format_of(schema), **options) for draft in drafts}
        plain = done["none"]
        validate(schema, plain.text)
        for found in done.values():
            assert (found.tokens, found.text, found.finish_reason) == (plain.tokens, plain.text, plain.finish_reason)


def test_log_probabilities_change_no_token(engines: dict[str, Engine]) -> None:
    """They need a row for each token, so that nothing is taken without one."""
    for item in (item for item in SCHEMAS[::5] if item["schema"] is not True and "properties" in item["schema"]):
        options: dict[str, Any] = {"temperature": 0, "max_tokens": 90, "response_format": format_of(item["schema"])}
        plain, reported = (engines["auto"].chat(MESSAGES, **options, logprobs=n) for n in (None, 1))
        assert reported.tokens == plain.tokens
        assert reported.logprobs is not None
        assert len(reported.logprobs) == len(plain.tokens)
        assert reported.stats.forced == 0 < plain.stats.forced


def test_names_are_forced_without_a_decode(engines: dict[str, Engine]) -> None:
    """Most of an answer of short values is taken along."""
    schema = {
        "type": "object",
        "properties": {f"a rather long name {i}": {"type": "boolean"} for i in range(4)},
        "required": [f"a rather long name {i}" for i in range(4)],
        "additionalProperties": False,
    }
    done = engines["none"].chat(MESSAGES, response_format=format_of(schema), temperature=0)
    assert done.finish_reason == "stop"
    assert done.stats.forced > len(done.tokens) * 0.8
    assert done.stats.steps <= len(done.tokens) - done.stats.forced + 1
