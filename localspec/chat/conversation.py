"""Messages → prompt tokens, such that a conversation's next turn begins with the tokens of the turn before.

A reply goes into the next prompt as the tokens that were generated, not as its text tokenized again, so that only
what is new needs a prefill. Where the template rewrites earlier turns (thinking is left out of them), the prompt is
made from the text afresh, and the cache is reused up to the first difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from localspec.chat.template import ChatTemplate, Message, Tools, check_messages
from localspec.chat.tools import for_template
from localspec.protocols import Vocabulary


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
    tools: tuple[dict[str, Any], ...] = ()

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> ChatPrompt | None:
        """The one whose fields :func:`vars` gave, from JSON; None if that is not what ``kept`` is."""
        text, tokens, thinking = kept.get("text"), kept.get("tokens"), kept.get("thinking")
        messages, tools = kept.get("messages"), kept.get("tools")
        if not (isinstance(text, str) and isinstance(tokens, list) and isinstance(thinking, bool)):
            return None
        if not (isinstance(messages, list) and isinstance(tools, list) and messages):
            return None
        if not all(isinstance(item, dict) for item in (*messages, *tools)):
            return None
        if not all(isinstance(token, int) and token >= 0 for token in tokens):
            return None
        return cls(text, tuple(tokens), tuple(messages), thinking, tuple(tools))


class Conversation:
    """Remembers the last turn of one engine."""

    def __init__(self, template: ChatTemplate, vocabulary: PromptVocabulary) -> None:
        self._template, self._vocabulary = template, vocabulary
        self._last: ChatPrompt | None = None
        self.calls = template.calls

    @property
    def last(self) -> ChatPrompt | None:
        """The last turn with its reply, if the next one may continue it."""
        return self._last

    def resume(self, last: ChatPrompt | None) -> None:
        """Go on from a turn that :attr:`last` gave, perhaps in another run."""
        self._last = last

    def prompt(self, messages: Sequence[Message], *, thinking: bool = False, tools: Tools = ()) -> ChatPrompt:
        """The prompt for the model's next reply to ``messages``, with ``tools`` (checked ones) that it may call."""
        check_messages(messages)
        plain, offered = for_template(messages), tuple(dict(tool) for tool in tools)
        return self._continued(plain, thinking, offered) or self._fresh(plain, thinking, offered)

    def clear(self) -> None:
        """Forget the last turn."""
        self._last = None

    def replied(
        self,
        prompt: ChatPrompt,
        text: str,
        tokens: Sequence[int],
        *,
        spliceable: bool = True,
        calls: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Take note of the reply to ``prompt``, generated as ``tokens`` (no end token).

        Not ``spliceable``: the tokens say more than ``text`` and ``calls`` (a thought, a stop string), so they are not
        to be kept.
        """
        reply = {"role": "assistant", "content": text, "tool_calls": list(calls)}
        self._last = None
        if spliceable:
            messages = (*prompt.messages, *for_template([reply]))
            tokens = (*prompt.tokens, *tokens)
            self._last = ChatPrompt(prompt.text, tokens, messages, prompt.thinking, prompt.tools)

    def _fresh(
        self, messages: tuple[dict[str, Any], ...], thinking: bool, tools: tuple[dict[str, Any], ...]
    ) -> ChatPrompt:
        text = self._template.render(messages, thinking=thinking, tools=tools)
        tokens = self._vocabulary.tokenize(text, add_special=False)
        if self._vocabulary.add_bos and tokens[:1] != [self._vocabulary.bos]:
            tokens = [self._vocabulary.bos, *tokens]
        return ChatPrompt(text, tuple(tokens), messages, thinking, tools)

    def _continued(
        self, messages: tuple[dict[str, Any], ...], thinking: bool, tools: tuple[dict[str, Any], ...]
    ) -> ChatPrompt | None:
        last = self._last
        if last is None or (last.thinking, last.tools) != (thinking, tools):
            return None
        n = len(last.messages)
        if len(messages) <= n or messages[:n] != last.messages:
            return None
        tail = self._template.after_reply(messages, n - 1, last.text, thinking=thinking, tools=tools)
        if tail is None:
            return None
        tokens = self._vocabulary.tokenize(tail, add_special=False)
        text = self._template.render(messages, thinking=thinking, tools=tools)
        return ChatPrompt(text, (*last.tokens, *tokens), messages, thinking, tools)
