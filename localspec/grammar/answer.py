"""The options ``response_format`` and ``grammar`` as a grammar, checked before any model runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localspec.errors import UsageError
from localspec.grammar.lark import gbnf_grammar
from localspec.grammar.schema import schema_grammar

_SHAPES = (
    '{"type": "json_schema", "json_schema": {"schema": {...}}}, {"type": "json_object"} or '
    '{"type": "json_object", "schema": {...}}'
)


@dataclass(frozen=True)
class AnswerGrammar:
    """llguidance's grammar of an answer, and notices about parts of the option that have no effect."""

    grammar: str
    notices: tuple[str, ...] = ()


def answer_grammar(response_format: object = None, grammar: object = None) -> AnswerGrammar | None:
    """The grammar of the options, None if they set none.

    Raises :class:`UsageError` for options of another shape, :class:`InputError` for a schema or grammar that cannot
    be followed, and :class:`MissingFeatureError` if llguidance is not installed.
    """
    if grammar is not None and response_format is not None:
        raise UsageError("grammar and response_format were both given; give one of them.")
    if grammar is not None:
        if not isinstance(grammar, str):
            raise UsageError(f"grammar is {type(grammar).__name__!r}; it must be the text of a GBNF grammar.")
        return AnswerGrammar(*gbnf_grammar(grammar))
    if response_format is None:
        return None
    if not isinstance(response_format, Mapping):
        raise UsageError(f"response_format is {response_format!r:.80}; it must be {_SHAPES}.")
    kind = response_format.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return AnswerGrammar(*schema_grammar(response_format.get("schema", {"type": "object"}), "the schema"))
    if kind == "json_schema":
        return AnswerGrammar(*schema_grammar(_schema(response_format), "the schema"))
    raise UsageError(f"response_format has the type {kind!r:.80}; it must be {_SHAPES}.")


def _schema(response_format: Mapping[str, Any]) -> Any:
    """The schema in ``json_schema`` (OpenAI's place), or beside the type (also accepted by llama-server)."""
    inner = response_format.get("json_schema", response_format)
    if not isinstance(inner, Mapping) or "schema" not in inner:
        raise UsageError(f"response_format of type json_schema has no schema; it must be {_SHAPES}.")
    return inner["schema"]
