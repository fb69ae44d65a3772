"""temporary"""

from __future__ import annotations


def gbnf_grammar(text: str) -> tuple[str, tuple[str, ...]]:
    from llguidance import grammar_from

    return grammar_from("gbnf", text), ()
