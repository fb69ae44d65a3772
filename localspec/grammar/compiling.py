"""llguidance as a compiler of grammars, on a stack that is deep enough for them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from localspec.errors import MissingFeatureError

T = TypeVar("T")

#: Levels of nesting of a grammar, rules within rules counted along. Each takes up to 5 KB of the stack.
MAX_LEVELS = 30_000
#: Bytes of the stack on which grammars are compiled. Pages that are not touched take no memory.
_STACK = 256 * 1024 * 1024


def import_llguidance() -> Any:
    """Import the package. Raises :class:`MissingFeatureError` with the command that installs it."""
    try:
        import llguidance
    except ImportError as error:
        raise MissingFeatureError(
            "structured answers need the package llguidance; run `python -m pip install llguidance`."
        ) from error
    return llguidance


def parser_limits() -> Any:
    """Work that one mask may take. Grammars by characters need more than llguidance's default."""
    return import_llguidance().LLParserLimits(step_max_items=2_000_000, step_lexer_fuel=2_000_000)


def on_deep_stack(work: Callable[[], T]) -> T:
    """``work()`` in a thread with room for grammars that are nested deeply: llguidance compiles them by recursion.

    A stack that overflows would end the process; that of a caller's thread may hold as few as 60 levels.
    """
    with ThreadPoolExecutor(1) as pool:
        try:
            before = threading.stack_size(_STACK)
            try:
                done = pool.submit(work)
            finally:
                threading.stack_size(before)
        except (RuntimeError, ValueError):  # no memory for such a stack, or no say in its size
            return work()
        return done.result()


def compiled(grammar: str) -> tuple[bool, list[str]]:
    """True if llguidance cannot follow ``grammar``, and its messages."""
    validate = import_llguidance().LLMatcher.validate_grammar_with_warnings
    failed, messages = on_deep_stack(lambda: validate(grammar, limits=parser_limits()))
    return bool(failed), list(messages)
