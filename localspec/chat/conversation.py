"""Messages to prompt tokens: the prompt of a conversation's next turn begins with the tokens of the last turn.

A reply enters the next prompt as the tokens that were generated, not as its text tokenized again, so only the new part
needs a prefill. If the template rewrites earlier turns (it may omit their thinking), the whole prompt is tokenized anew
and the cache is reused up to the first difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from localspec.chat.content import check_final
from localspec.chat.media_vocabulary import MediaVocabulary
from localspec.chat.plain_contents import Chat, PromptVocabulary, Render, tokenize_chat
from localspec.chat.template import ChatTemplate, Message, Tools, check_messages
from localspec.chat.tools import template_messages
from localspec.errors import TemplateError
from localspec.media.reader import MediaTokens
from localspec.protocols import Piece


@dataclass(frozen=True)
class ChatPrompt:
    """A prompt as tokens, and as the text that the template writes for its messages.

    The tokens contain earlier replies as they were generated, which may differ from the tokens of the text. Negative
    ones are cells of pictures and sounds.
    ``continued``: text of the final message that the reply continues; the prompt ends with it. ``media``: pieces of the
    pictures and sounds, by their first cells; the last turn of a conversation does not keep them.
    """

    text: str
    tokens: tuple[int, ...]
    messages: tuple[dict[str, Any], ...]
    thinking: bool
    tools: tuple[dict[str, Any], ...] = ()
    continued: str = ""
    media: Mapping[int, Piece] = field(default_factory=dict, compare=False)

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
        if not all(isinstance(token, int) for token in tokens):
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

    def prompt(
        self,
        messages: Sequence[Message],
        *,
        thinking: bool = False,
        tools: Tools = (),
        continue_final: bool = False,
        media: MediaTokens | None = None,
    ) -> ChatPrompt:
        """The prompt for the next reply to ``messages``. ``tools``, already checked, may be called.

        ``continue_final``: the reply continues the final message, an assistant's text. ``media``: the pictures
        and sounds whose marks the messages have. Raises :class:`TemplateError` where the template changes that text.
        """
        check_messages(messages)
        plain, offered = template_messages(messages), tuple(dict(tool) for tool in tools)
        if media is None:
            return self._prompt(plain, thinking, offered, continue_final, self._vocabulary)
        vocabulary = MediaVocabulary(self._vocabulary, media.entries)
        found = self._prompt(plain, thinking, offered, continue_final, vocabulary)
        if found.tokens[-1] < 0:
            raise TemplateError("the chat template writes nothing after a picture or a sound; use another template.")
        return replace(found, media=media.pieces)

    def _prompt(
        self,
        plain: tuple[dict[str, Any], ...],
        thinking: bool,
        offered: tuple[dict[str, Any], ...],
        continue_final: bool,
        vocabulary: PromptVocabulary,
    ) -> ChatPrompt:
        if continue_final:
            check_final(plain, continued=True)
            return self._resumed(plain, thinking, offered) or self._opened(plain, thinking, offered, vocabulary)
        continued = self._continued(plain, thinking, offered, vocabulary)
        return continued or self._fresh(plain, thinking, offered, vocabulary)

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
        earlier, begun = (prompt.messages[:-1], prompt.messages[-1]) if prompt.continued else (prompt.messages, {})
        reply = {**begun, "role": "assistant", "content": prompt.continued + text, "tool_calls": list(calls)}
        self._last = None
        if reusable:
            messages = (*earlier, *template_messages([reply]))
            before = prompt.text.removesuffix(prompt.continued)
            self._last = ChatPrompt(before, (*prompt.tokens, *tokens), messages, prompt.thinking, prompt.tools)

    def _fresh(
        self,
        messages: tuple[dict[str, Any], ...],
        thinking: bool,
        tools: tuple[dict[str, Any], ...],
        vocabulary: PromptVocabulary,
    ) -> ChatPrompt:
        def render(chat: Chat) -> str:
            return self._template.render(chat.messages, thinking=thinking, tools=chat.tools)

        chat = Chat(messages, tools)
        text = render(chat)
        return ChatPrompt(text, _tokens(vocabulary, text, chat, render), messages, thinking, tools)

    def _opened(
        self,
        messages: tuple[dict[str, Any], ...],
        thinking: bool,
        tools: tuple[dict[str, Any], ...],
        vocabulary: PromptVocabulary,
    ) -> ChatPrompt:
        """The prompt that ends inside the final message."""

        def render(chat: Chat) -> str | None:
            before = self._template.before_final(chat.messages, thinking=thinking, tools=chat.tools)
            return None if before is None else before + chat.messages[-1]["content"]

        chat = Chat(messages, tools)
        text = render(chat)
        if text is None or not self._template.keeps_final(messages, thinking=thinking, tools=tools):
            raise TemplateError(
                "the chat template does not write the final message as it is (thoughts may be left out), "
                "so it cannot be continued; change the message, or use --raw."
            )
        tokens = _tokens(vocabulary, text, chat, render)
        return ChatPrompt(text, tokens, messages, thinking, tools, messages[-1]["content"])

    def _resumed(
        self, messages: tuple[dict[str, Any], ...], thinking: bool, tools: tuple[dict[str, Any], ...]
    ) -> ChatPrompt | None:
        """The prompt that continues the last reply, with its tokens as they were generated."""
        last = self._last
        if last is None or (last.messages, last.thinking, last.tools) != (messages, thinking, tools):
            return None
        text = messages[-1]["content"]
        return ChatPrompt(last.text + text, last.tokens, messages, thinking, tools, text)

    def _continued(
        self,
        messages: tuple[dict[str, Any], ...],
        thinking: bool,
        tools: tuple[dict[str, Any], ...],
        vocabulary: PromptVocabulary,
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
        tokens = None if tail is None else tokenize_chat(vocabulary, tail, chat, render)
        if tokens is None:
            return None
        text = self._template.render(messages, thinking=thinking, tools=tools)
        return ChatPrompt(text, (*last.tokens, *tokens), messages, thinking, tools)


def _tokens(vocabulary: PromptVocabulary, text: str, chat: Chat, render: Render) -> tuple[int, ...]:
    """Tokens of a prompt's whole text, with BOS."""
    tokens = tokenize_chat(vocabulary, text, chat, render) or []
    if vocabulary.add_bos and tokens[:1] != [vocabulary.bos]:
        tokens = [vocabulary.bos, *tokens]
    return tuple(tokens)
