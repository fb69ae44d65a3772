"""The grammar of an answer that must call a tool: the syntax of the model's template, with the tool's schema in it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from localspec.chat.call_syntax import CallSyntax
from localspec.errors import InputError
from localspec.grammar.answer import AnswerGrammar
from localspec.grammar.compiling import compiled, import_llguidance
from localspec.grammar.gemma_values import GemmaRules
from localspec.grammar.schema import schema_grammar
from localspec.protocols import Vocabulary

#: Names that Gemma's syntax can hold.
_GEMMA_NAME = re.compile(r"[^\s{}()<>]+")
#: Keywords by which an object's schema names members beside its properties.
_MORE_MEMBERS = frozenset(
    ("additionalProperties", "patternProperties", "propertyNames", "anyOf", "oneOf", "allOf", "$ref")
)


def call_grammar(
    syntax: CallSyntax, functions: Sequence[Mapping[str, Any]], vocabulary: Vocabulary, *, several: bool
) -> AnswerGrammar:
    """The grammar of calls of ``functions`` (definitions as in the OpenAI chat API): one, or ``several`` in a row.

    Markers that are single tokens of ``vocabulary`` are those tokens. Arguments beside the named ones are left out
    where the schema does not mention any. Raises :class:`InputError` for a name that the syntax cannot hold and for
    parameters that cannot be followed.
    """
    written, notices, calls, rules = syntax.written, list[str](), list[str](), list[str]()
    gemma = None if written.json else GemmaRules(lambda text: _parts(text, syntax.markers, vocabulary))
    for number, function in enumerate(functions):
        name = str(function["name"])
        schema, found = _arguments(function)
        notices += found
        if gemma is None:
            body, escaped = f"args{number}", json.dumps(name, ensure_ascii=False)[1:-1]
            rules.append(f"{body}: %json {json.dumps(schema)}")
        else:
            escaped = _plain_name(name)
            body = gemma.object(schema, schema)
            notices += gemma.notices(f"the parameters of {name}")
        before = _parts(f"{written.before}{escaped}{written.middle}", syntax.markers, vocabulary)
        calls.append(f"{before} {body} {_parts(written.after, syntax.markers, vocabulary)}")
    more = "" if not several or written.between_calls is None else f" ({_literal(written.between_calls)} call)*"
    lines = ["%llguidance {}", f"start: call{more}", f"call: {' | '.join(calls)}", *rules]
    text = "\n".join([*lines, *(gemma.rules if gemma else ()), ""])
    grammar = import_llguidance().LLMatcher.grammar_from_lark(text)
    failed, messages = compiled(grammar)
    if failed:
        raise InputError(f"the tools cannot be followed: {' '.join(messages[0].split())[:300]}.")
    return AnswerGrammar(str(grammar), tuple(notices))


def _arguments(function: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The schema of a function's arguments in the form of llguidance, and notices."""
    where = f"the parameters of {function['name']}"
    given = dict(function.get("parameters") or {})
    if given.setdefault("type", "object") != "object":
        raise InputError(f"{where} have the type {given['type']!r:.80}; arguments are an object.")
    if given.get("properties") and not _MORE_MEMBERS & given.keys():
        given["additionalProperties"] = False
    grammar, notices = schema_grammar(given, where)
    schema: dict[str, Any] = json.loads(grammar)["grammars"][0]["json_schema"]
    return schema, notices


def _plain_name(name: str) -> str:
    if not _GEMMA_NAME.fullmatch(name):
        raise InputError(f"the tool {name!r:.80} has a name that this model cannot call; use letters, digits and _.")
    return name


def _parts(text: str, markers: Sequence[str], vocabulary: Vocabulary) -> str:
    """``text`` in Lark; a marker that is one token is that token."""
    found = []
    for part in re.split(f"({'|'.join(map(re.escape, markers))})", text):
        ids = vocabulary.tokenize(part, add_special=False) if part in markers else []
        if part:
            found.append(f"<[{ids[0]}]>" if len(ids) == 1 else _literal(part))
    return " ".join(found)


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
