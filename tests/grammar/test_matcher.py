"""Laws of the matcher: what may follow depends on the path alone, not on the paths that were left."""

from __future__ import annotations

from typing import Any

import pytest

from localspec.grammar.vocabulary import GrammarVocabulary
from localspec.protocols import common_length
from tests.helpers.grammar_support import grammar_of
from tests.helpers.support import MarkerVocabulary

TEXT = {"type": "string"}


class JsonVocabulary(MarkerVocabulary):
    """Bytes, and the ends of a string in one token with what follows."""

    pairs = ('"}', '",')


def members(**properties: Any) -> dict[str, Any]:
    return {"properties": properties, "required": list(properties), "additionalProperties": False, "type": "object"}


GRAMMAR = grammar_of(members(steps={"type": "array", "items": members(a=TEXT, b=TEXT)}, end=TEXT))
ANSWERS = (
    b'{"steps": [{"a": "x", "b": "y"}], "end": "zz"}',
    b'{"steps": [{"a": "x", "b": "y"}, {"a": "zz", "b": "zz"}], "end": ""}',
)


@pytest.fixture(scope="module")
def vocabulary() -> GrammarVocabulary:
    return GrammarVocabulary(JsonVocabulary())


def test_any_other_path_leaves_no_mask_behind(vocabulary: GrammarVocabulary) -> None:
    """llguidance keeps one, and takes it for that of a state that only resembles it."""
    starts = {answer[:n] for answer in ANSWERS for n in range(1, len(answer))}
    right = {}
    for start in starts:
        matcher = vocabulary.matcher(GRAMMAR)
        matcher.consume_tokens(list(start))  # a byte is its own token here
        right[start] = matcher.compute_bitmask()
    for left in starts:
        for start in starts:
            matcher, common = vocabulary.matcher(GRAMMAR), common_length(left, start)
            matcher.consume_tokens(list(left))
            matcher.compute_bitmask()
            matcher.rollback(len(left) - common)
            matcher.consume_tokens(list(start[common:]))
            assert matcher.compute_bitmask() == right[start], (left, start)
