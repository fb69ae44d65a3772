"""Messages → prompt tokens, such that a conversation's next turn begins with the tokens of the turn before.

A reply goes into the next prompt as the tokens that were generated, not as its text tokenized again, so that only
what is new needs a prefill. Where the template rewrites earlier turns (thinking is left out of them), the prompt is
made from the text afresh, and the cache is reused up to the first difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from localspec.backends.base import Vocabulary
from localspec.template import ChatTemplate, Message, check_messages


class PromptVocabulary(Vocabulary, Protocol):
    """A vocabulary that knows its BOS token."""

    add_bos: bool
    bos: int


@dataclass(frozen=True)
class ChatPrompt:
    """A prompt as tokens, and as the text that the template gives for its messages.

    Once a conversation goes on the tokens may differ from the text's: they hold earlier replies as they were generated.
    """

    text: str
    tokens: tuple[int, ...]
    messages: tuple[dict[str, Any], ...]
    thinking: bool


class Conversation:
    """Remembers the last turn of one engine."""

    def __init__(self, template: ChatTemplate, vocabulary: PromptVocabulary) -> None:
        self._template, self._vocabulary = template, vocabulary
        self._last: ChatPrompt | None = None

    def prompt(self, messages: Sequence[Message], *, thinking: bool = False) -> ChatPrompt:
        """The prompt for the model's next reply to ``messages``."""
        check_messages(messages)
        plain = tuple(dict(message) for message in messages)
        return self._continued(plain, thinking) or self._fresh(plain, thinking)

    def clear(self) -> None:
        """Forget the last turn."""
        self._last = None

    def replied(self, prompt: ChatPrompt, text: str, tokens: Sequence[int], *, spliceable: bool = True) -> None:
        """Take note of the reply to ``prompt``, generated as ``tokens`` (no end token).

        Not ``spliceable``: the tokens say more than ``text`` (a thought, a stop string), so they are not to be kept.
        """
        reply = {"role": "assistant", "content": text}
        self._last = None
        if spliceable:
            messages = (*prompt.messages, reply)
            self._last = ChatPrompt(prompt.text, (*prompt.tokens, *tokens), messages, prompt.thinking)

    def _fresh(self, messages: tuple[dict[str, Any], ...], thinking: bool) -> ChatPrompt:
        text = self._template.render(messages, thinking=thinking)
        tokens = self._vocabulary.tokenize(text, add_special=False)
        if self._vocabulary.add_bos and tokens[:1] != [self._vocabulary.bos]:
            tokens = [self._vocabulary.bos, *tokens]
        return ChatPrompt(text, tuple(tokens), messages, thinking)

    def _continued(self, messages: tuple[dict[str, Any], ...], thinking: bool) -> ChatPrompt | None:
        last = self._last
        if last is None or last.thinking != thinking:
            return None
        n = len(last.messages)
        if len(messages) <= n or messages[:n] != last.messages:
            return None
        tail = self._template.after_reply(messages, n - 1, last.text, thinking=thinking)
        if tail is None:
            return None
        tokens = self._vocabulary.tokenize(tail, add_special=False)
        text = self._template.render(messages, thinking=thinking)
        return ChatPrompt(text, (*last.tokens, *tokens), messages, thinking)
