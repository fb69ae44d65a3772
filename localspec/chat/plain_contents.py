"""Tokenize a rendered chat so that contents are plain text: only the template's own text becomes control tokens.

A rendered chat does not show which of its parts are contents. It is therefore rendered a second time, with marks
between the characters of all contents that could contribute to a control token. If both renderings have the same
control tokens, these come from the template, and the first rendering is tokenized whole. Otherwise the marks show which
parts must be tokenized as plain text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from localspec.protocols import FimTokens, Vocabulary

#: Code points of which one is the mark: private use, so no template inspects it, and no filter changes it.
_MARKS = range(0xE000, 0xF900)


class PromptVocabulary(Vocabulary, Protocol):
    """Vocabulary with a BOS token, control tokens and, in models for code, tokens to fill a gap."""

    add_bos: bool
    bos: int
    fim: FimTokens | None

    def control_text(self, token: int) -> str | None:
        """Return the text of a control token, or of a marker such as ``<|tool_call>``; None for tokens of text."""


@dataclass(frozen=True)
class Chat:
    """Messages and tools to render. Contents of a marked chat have ``mark`` between their characters."""

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] = ()
    mark: str = ""

    def clean(self, text: str) -> str:
        """``text`` without marks, which a template may have written as JSON escapes."""
        return re.sub(rf"{self.mark}|\\u{ord(self.mark):04x}", "", text) if self.mark else text


#: Renders a chat, or the part of it that is to be tokenized; None if there is no such part.
Render = Callable[[Chat], str | None]


def tokenize_chat(vocabulary: PromptVocabulary, text: str, chat: Chat, render: Render) -> list[int] | None:
    """Ids of ``text``, which ``render`` gives for ``chat``, without BOS; None if it gives None for the marked chat.

    Control tokens and markers in contents are plain text, except for markers in the contents of assistants, which may
    be thoughts that the template removes.
    """
    ids = vocabulary.tokenize(text, add_special=False)
    control = _find_control_tokens(vocabulary, ids)
    if not control.texts or not _any_string(chat, control.may_contribute):
        return ids
    mark = next(chr(code) for code in _MARKS if chr(code) not in text)
    all_marked = _marked(chat, mark, control.may_contribute, control)
    found = render(all_marked)
    if found is None:
        return None
    template_tokens = control.find(found)
    if control.find(text) == template_tokens:
        return ids
    # The template may inspect contents: mark only those with a control token, if that gives the same control tokens.
    few_marked = render(_marked(chat, mark, control.pattern.search, control))
    if few_marked is not None and control.find(few_marked) == template_tokens:
        found = few_marked
    return _tokenize_marked(vocabulary, all_marked, found, control)


@dataclass(frozen=True)
class _ControlTokens:
    """Texts of the control tokens in a rendering; ``markers`` are those that the tokenizer finds in plain text, too."""

    texts: tuple[str, ...]
    markers: tuple[str, ...]

    @property
    def pattern(self) -> re.Pattern[str]:
        return _any_of(self.texts)

    def may_contribute(self, text: str) -> bool:
        """True if ``text`` has the first or last character of a control token, so may complete one."""
        return any(char in text for char in {char for control in self.texts for char in (control[0], control[-1])})

    def find(self, text: str) -> list[str]:
        """The control tokens in ``text``, in order."""
        return self.pattern.findall(text)


def _find_control_tokens(vocabulary: PromptVocabulary, ids: Sequence[int]) -> _ControlTokens:
    found = {text: token for token in dict.fromkeys(ids) if (text := vocabulary.control_text(token))}
    texts = sorted(found, key=len, reverse=True)
    markers = [t for t in texts if vocabulary.tokenize(t, add_special=False, parse_special=False) == [found[t]]]
    return _ControlTokens(tuple(texts), tuple(markers))


def _any_of(texts: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, texts)) or r"(?!)")


def _marked(chat: Chat, mark: str, should_mark: Callable[[str], object], control: _ControlTokens) -> Chat:
    """``chat`` with marks around each character of the strings for which ``should_mark`` is true."""

    def mark_text(text: str) -> str:
        if not should_mark(text):
            return text
        return re.sub(r"\S+", lambda found: f"{mark}{mark.join(found[0])}{mark}", text)

    def mark_assistant(text: str) -> str:
        parts = re.split(f"({_any_of(control.markers).pattern})", text)
        return "".join(part if i % 2 else mark_text(part) for i, part in enumerate(parts))

    messages = [
        {
            key: _map_strings(value, mark_assistant if _is_said(message, key) else mark_text)
            for key, value in message.items()
        }
        for message in chat.messages
    ]
    return Chat(messages, [_map_strings(tool, mark_text) for tool in chat.tools], mark)


def _is_said(message: Mapping[str, Any], key: str) -> bool:
    return message.get("role") == "assistant" and key != "tool_calls"


def _map_strings(value: Any, change: Callable[[str], str]) -> Any:
    """``value`` with all strings and keys changed, at any depth."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {_map_strings(key, change): _map_strings(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_map_strings(item, change) for item in value]
    return value


def _any_string(chat: Chat, condition: Callable[[str], object]) -> bool:
    found: list[bool] = []

    def look(text: str) -> str:
        found.append(bool(condition(text)))
        return text

    _map_strings([*chat.messages, *chat.tools], look)
    return any(found)


def _tokenize_marked(vocabulary: PromptVocabulary, chat: Chat, text: str, control: _ControlTokens) -> list[int]:
    """Ids of a marked rendering: text between two control tokens is plain if it has a control token without marks."""
    ids: list[int] = []
    special = ""  # text whose control tokens are parsed
    for part in re.split(f"({control.pattern.pattern})", text):
        clean = chat.clean(part)
        if clean != part and control.pattern.search(clean):
            ids += vocabulary.tokenize(special, add_special=False) if special else []
            ids += _tokenize_plain(vocabulary, clean, control)
            special = ""
        else:
            special += clean
    return ids + (vocabulary.tokenize(special, add_special=False) if special else [])


def _tokenize_plain(vocabulary: PromptVocabulary, text: str, control: _ControlTokens) -> list[int]:
    """Ids of ``text`` as plain text. A marker is divided, since tokenizers find it in plain text, too."""
    ends = [found.start() + 1 for found in _any_of(control.markers).finditer(text)]
    parts = [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]
    return [i for part in parts for i in vocabulary.tokenize(part, add_special=False, parse_special=False)]
