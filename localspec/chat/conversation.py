"""Messages to prompt tokens: the prompt of a conversation's next turn begins with the tokens of the last turn.

A reply enters the next prompt as the tokens that were generated, not as its text tokenized again, so only the new part
needs a prefill. If the template rewrites earlier turns (it may omit their thinking), the whole prompt is tokenized anew
and the cache is reused up to the first difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from localspec.chat.plain_contents import Chat, PromptVocabulary, tokenize_chat
from localspec.chat.template import ChatTemplate, Message, Tools, check_messages
from localspec.chat.tools import template_messages


@dataclass(frozen=True)
class ChatPrompt:
    """A prompt as tokens, and as the text that the template writes for its messages.

    The tokens contain earlier replies as they were generated, which may differ from the tokens of the text.
    """

    text: str
    tokens: tuple[int, ...]
    messages: tuple[dict[str, Any], ...]
    thinking: bool
    tools: tuple[dict[str, Any], ...] = ()

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ChatPrompt | None:
        """Inverse of :func:`vars`, after a way through JSON; None if ``fields`` are malformed."""
        text, tokens, thinking = fields.get("text"), fields.get("tokens"), fields.get("thinking")
        messages, tools = fields.get("messages"), fields.get("tools")
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
    """The last turn of an engine's chat, and the prompts that continue it."""

    def __init__(self, template: ChatTemplate, vocabulary: PromptVocabulary) -> None:
        self._template, self._vocabulary = template, vocabulary
        self._last: ChatPrompt | None = None
        self.call_syntax = template.call_syntax

    @property
    def last(self) -> ChatPrompt | None:
        """The last turn with its reply, None if it cannot be continued."""
        return self._last

    def resume(self, last: ChatPrompt | None) -> None:
        """Continue from a turn that :attr:`last` gave, perhaps in another process."""
        self._last = last

    def prompt(self, messages: Sequence[Message], *, thinking: bool = False, tools: Tools = ()) -> ChatPrompt:
        """The prompt for the next reply to ``messages``. ``tools``, already checked, may be called."""
        check_messages(messages)
        plain, offered = template_messages(messages), tuple(dict(tool) for tool in tools)
        return self._continued(plain, thinking, offered) or self._fresh(plain, thinking, offered)

    def clear(self) -> None:
        """Forget the last turn."""
        self._last = None

    def add_reply(
        self,
        prompt: ChatPrompt,
        text: str,
        tokens: Sequence[int],
        *,
        reusable: bool = True,
        calls: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Record the reply to ``prompt``, generated as ``tokens`` without an end token.

        Not ``reusable``: the tokens hold more than ``text`` and ``calls`` (a thought, a stop string), so the next turn
        does not continue them.
        """
        reply = {"role": "assistant", "content": text, "tool_calls": list(calls)}
        self._last = None
        if reusable:
            messages = (*prompt.messages, *template_messages([reply]))
            tokens = (*prompt.tokens, *tokens)
            self._last = ChatPrompt(prompt.text, tokens, messages, prompt.thinking, prompt.tools)

    def _fresh(
        self, messages: tuple[dict[str, Any], ...], thinking: bool, tools: tuple[dict[str, Any], ...]
    ) -> ChatPrompt:
        def render(chat: Chat) -> str:
            return self._template.render(chat.messages, thinking=thinking, tools=chat.tools)

        chat = Chat(messages, tools)
        text = render(chat)
        tokens = tokenize_chat(self._vocabulary, text, chat, render) or []
        if self._vocabulary.add_bos and tokens[:1] != [self._vocabulary.bos]:
            tokens = [self._vocabulary.bos, *tokens]
        return ChatPrompt(text, tuple(tokens), messages, thinking, tools)

    def _continued(
        self, messages: tuple[dict[str, Any], ...], thinking: bool, tools: tuple[dict[str, Any], ...]
    ) -> ChatPrompt | None:
        last = self._last
        if last is None or (last.thinking, last.tools) != (thinking, tools):
            return None
        before, n = last.text, len(last.messages)
        if len(messages) <= n or messages[:n] != last.messages:
            return None

        def render(chat: Chat) -> str | None:
            found = self._template.split_at_reply(chat.messages, n - 1, thinking=thinking, tools=chat.tools)
            return found[1] if found and before.startswith(chat.clean(found[0])) else None

        chat = Chat(messages, tools)
        tail = render(chat)
        tokens = None if tail is None else tokenize_chat(self._vocabulary, tail, chat, render)
        if tokens is None:
            return None
        text = self._template.render(messages, thinking=thinking, tools=tools)
        return ChatPrompt(text, (*last.tokens, *tokens), messages, thinking, tools)
