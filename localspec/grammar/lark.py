"""Convert GBNF rules to llguidance's Lark notation; both match the same texts.

llguidance splits text into lexemes by the longest match and parses those; GBNF works by characters. A grammar without
recursion is regular and becomes one lexeme, whose masks are fast. With recursion each character is a lexeme: masks then
take a few milliseconds in free text at 152k tokens, and the longest match rules out no text (``ws`` before a line end,
an identifier that begins like a keyword).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Set

from localspec.errors import InputError
from localspec.grammar.compiling import MAX_LEVELS, compiled, import_llguidance
from localspec.grammar.gbnf import Alt, Chars, Node, Ref, Rep, Seq, Text, parse_gbnf


def gbnf_grammar(source: str) -> tuple[str, tuple[str, ...]]:
    """llguidance's grammar for a GBNF ``source``, and notices about it.

    Raises :class:`InputError` with the place of the error.
    """
    matcher = import_llguidance().LLMatcher
    grammar = matcher.grammar_from_lark(to_lark(parse_gbnf(source)))
    failed, messages = compiled(grammar)
    if failed:
        reason = re.sub(r"^(?:at )?\d+\(\d+\): ", "", messages[0].splitlines()[0])  # a place in the Lark text
        raise InputError(f"the grammar cannot be followed: {reason[:300]}.")
    return grammar, tuple(f"The grammar: {' '.join(message.split())[:300]}." for message in messages)


def to_lark(rules: Mapping[str, Node]) -> str:
    """Lark text that matches the same texts as the GBNF ``rules`` from ``root`` on."""
    explored, recursive = _explored(rules)
    used = explored[::-1]
    number = {name: i for i, name in enumerate(used)}
    if recursive:
        lines = [f"r{number[name]}: {_rule(rules[name], number)}" for name in used]
        return "\n".join(["%llguidance {}", "start: r0", *lines, ""])
    empty: set[str] = set()
    for name in explored:
        if _may_be_empty(rules[name], empty):
            empty.add(name)
    lines = [f"T{number[name]}: {_lexeme(rules[name], number)}" for name in used]
    start = "(WHOLE)?" if "root" in empty else "WHOLE"  # no lexeme is empty
    return "\n".join(["%llguidance {}", f"start: {start}", "WHOLE: T0 & /(?s:.+)/", *lines, ""])


def _rule(node: Node, number: Mapping[str, int]) -> str:
    """``node`` in a rule; each character is a lexeme."""

    def text(chars: str) -> str:
        return f"({' '.join(f'/{_escaped(char)}/' for char in chars)})"

    return _notation(node, lambda name: f"r{number[name]}", text)


def _lexeme(node: Node, number: Mapping[str, int]) -> str:
    """``node`` as a part of the one lexeme."""
    return _notation(node, lambda name: f"T{number[name]}", lambda chars: f"/{_escaped(chars)}/")


def _notation(node: Node, ref: Callable[[str], str], text: Callable[[str], str]) -> str:
    """``node`` in Lark. ``ref`` writes a reference, ``text`` a text that is not empty."""

    def written(part: Node) -> str:
        return _notation(part, ref, text)

    if isinstance(node, Ref):
        return ref(node.name)
    if isinstance(node, Text):
        return text(node.text) if node.text else '""'
    if isinstance(node, Chars):
        return f"/{_char_class(node)}/"
    if isinstance(node, Seq):
        return f"({' '.join(map(written, node.parts))})" if node.parts else '""'
    if isinstance(node, Alt):
        return f"({' | '.join(map(written, node.options))})"
    return f"({written(node.node)}){_times(node)}"


def _parts(node: Node) -> tuple[Node, ...]:
    if isinstance(node, Seq):
        return node.parts
    if isinstance(node, Alt):
        return node.options
    return (node.node,) if isinstance(node, Rep) else ()


def _names(node: Node) -> dict[str, None]:
    """Names of the rules in ``node``, in order."""
    if isinstance(node, Ref):
        return {node.name: None}
    return {name: None for part in _parts(node) for name in _names(part)}


def _levels(node: Node) -> int:
    """Levels of nesting of ``node``."""
    return 1 + max(map(_levels, _parts(node)), default=0)


def _explored(rules: Mapping[str, Node]) -> tuple[list[str], bool]:
    """The rules that ``root`` needs, each after those that it names, and True if a rule needs itself.

    Raises :class:`InputError` if they are nested too deeply for llguidance.
    """
    levels: dict[str, int] = {}
    used = {name: list(_names(node)) for name, node in rules.items()}
    path, recursive = {"root": iter(used["root"])}, False
    while path:
        name, rest = next(reversed(path.items()))
        inner = next(rest, None)
        if inner is None:
            del path[name]
            levels[name] = _levels(rules[name]) + max((levels.get(other, 0) for other in used[name]), default=0)
            if levels[name] > MAX_LEVELS:
                raise InputError(f"the grammar's rules are nested more than {MAX_LEVELS} levels deep; use fewer rules.")
        elif inner in path:
            recursive = True
        elif inner not in levels:
            path[inner] = iter(used[inner])
    return list(levels), recursive


def _may_be_empty(node: Node, empty: Set[str]) -> bool:
    """True if ``node`` matches the empty text, where the rules ``empty`` do."""
    if isinstance(node, Ref):
        return node.name in empty
    if isinstance(node, Text):
        return not node.text
    if isinstance(node, Chars):
        return False
    if isinstance(node, Alt):
        return any(_may_be_empty(option, empty) for option in node.options)
    if isinstance(node, Rep):
        return node.low == 0 or _may_be_empty(node.node, empty)
    return all(_may_be_empty(part, empty) for part in node.parts)


def _times(node: Rep) -> str:
    simple = {(0, None): "*", (1, None): "+", (0, 1): "?"}.get((node.low, node.high))
    return simple or f"{{{node.low},{'' if node.high is None else node.high}}}"


def _escaped(text: str) -> str:
    return "".join(char if char.isascii() and char.isalnum() else f"\\x{{{ord(char):x}}}" for char in text)


def _char_class(node: Chars) -> str:
    if not node.ranges:
        return "(?s:.)"
    inside = "".join(f"\\x{{{first:x}}}-\\x{{{last:x}}}" for first, last in node.ranges)
    return f"[{'^' if node.negated else ''}{inside}]"
