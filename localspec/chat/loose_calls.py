r"""Strings and names of tool calls as models write them, read where they can mean only one thing.

JSON's reading comes first: in a string whose escapes are all JSON's they are escapes, so ``"C:\new"`` holds a line end,
as any JSON parser says. Another backslash shows that the string was written without escaping backslashes:

- In a Windows path such as ``"C:\Users\new"`` every backslash is one, since no path holds a line end.
- Else they are backslashes too (``"\d+"``), unless ``\n``, ``\r``, ``\t``, ``\u0041`` or ``\\`` is in the same string:
  ``"\d\n"`` can mean a line end or not, so the string is ambiguous.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_STRINGS = {quote: re.compile(rf"{quote}([^{quote}\\]*(?:\\.[^{quote}\\]*)*){quote}", re.DOTALL) for quote in "\"'"}
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_CHARACTERS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", '"': '"', "'": "'", "\\": "\\", "/": "/"}
#: Escapes that keep their meaning beside a backslash that is none; nobody means the control characters of b and f.
_QUOTES = ('"', "'", "/")
_COMPETING = ("n", "r", "t", "\\")
_NAME = r'[^\\/:*?"<>|\r\n]+'
#: A drive or a server, and folders.
_WINDOWS_PATH = re.compile(rf"(?:[A-Za-z]:|\\\\[\w.-]{{2,}})(?:\\{_NAME})+")
#: Texts between a namespace and the name of a tool.
_SEPARATOR = re.compile(r"[.:/]")


def quoted(text: str, at: int) -> tuple[str, int] | None:
    """Text inside the quotes that open at ``at``, and the index after them; None if they do not close."""
    found = _STRINGS[text[at]].match(text, at)
    return (found[1], found.end()) if found else None


def unescape(written: str) -> str | None:
    """The text that ``written``, the inside of a string in ordinary or single quotes, means; None if ambiguous."""
    escapes = {found[1] for found in _ESCAPE.finditer(written)}
    if all(_is_valid(escape) for escape in escapes):
        return _join_surrogates(_ESCAPE.sub(lambda found: _character(found[1]), written))
    if _WINDOWS_PATH.fullmatch(written):
        return written
    if any(escape in _COMPETING or len(escape) > 1 for escape in escapes):
        return None
    return _ESCAPE.sub(lambda found: found[1] if found[1] in _QUOTES else found[0], written)


def tool_name(name: str, names: Collection[str]) -> str:
    """The tool of ``names`` that ``name`` is, behind a namespace if need be; ``name`` if there is not exactly one."""
    if name in names:
        return name
    found = {ending for at in _SEPARATOR.finditer(name) if (ending := name[at.end() :]) in names}
    return found.pop() if len(found) == 1 else name


def _is_valid(escape: str) -> bool:
    return escape in _CHARACTERS or len(escape) > 1


def _character(escape: str) -> str:
    return chr(int(escape[1:], 16)) if len(escape) > 1 else _CHARACTERS[escape]


def _join_surrogates(text: str) -> str:
    """``text`` with pairs of surrogates, which JSON's escapes write, as one character."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
