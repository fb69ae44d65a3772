"""Requests → tasks: everything that can be wrong with a request is found here, before the first pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from localspec.chat.call_syntax import CallSyntax
from localspec.chat.content import check_final
from localspec.chat.conversation import ChatPrompt, Conversation
from localspec.chat.plain_contents import PromptVocabulary
from localspec.chat.template import Message, Tools, check_messages
from localspec.chat.thinking import find_markers
from localspec.chat.tools import Choice, check_choice, check_tools
from localspec.errors import InputError, PromptTooLongError, TemplateError, UsageError
from localspec.generation.options import ChatOptions, Options, Request
from localspec.generation.prompt import Messages, Prepared, RawPrompt, raw_tokens
from localspec.grammar.answer import AnswerGrammar
from localspec.grammar.calls import call_grammar
from localspec.grammar.constraint import GrammarConstraint
from localspec.grammar.vocabulary import GrammarVocabulary
from localspec.media.parts import take_media
from localspec.media.reader import MediaReader, MediaTokens
from localspec.media.source import Media
from localspec.params import given
from localspec.sampling import Sampler, Samplers


@dataclass(frozen=True)
class Task:
    """A checked request for one answer.

    ``tokens``: the prompt. ``room``: tokens that the context holds beyond it. ``chat``: the messages of the prompt,
    None for raw text. ``syntax``: how the model writes tool calls, where tools are offered. ``several``: the answer may
    have more than one call.
    """

    tokens: list[int]
    request: Request
    room: int
    sampler: Sampler
    constraint: GrammarConstraint | None = None
    chat: ChatPrompt | None = None
    syntax: CallSyntax | None = None
    several: bool = True


class Tasks:
    """Makes the tasks of one model.

    ``conversation`` is None where the model has no chat template, ``reader`` where it has no projector.
    """

    def __init__(
        self,
        vocabulary: PromptVocabulary,
        conversation: Conversation | None,
        *,
        model: str,
        n_ctx: int,
        reader: MediaReader | None = None,
    ) -> None:
        self.conversation, self.reader = conversation, reader
        self._vocabulary, self._model, self._n_ctx = vocabulary, model, n_ctx
        self._samplers = Samplers(vocabulary)
        self._grammars: GrammarVocabulary | None = None

    def from_text(self, prompt: RawPrompt, options: Options) -> Task:
        """Task of continuing ``prompt``.

        Raises :class:`UsageError`, :class:`InputError` or :class:`PromptTooLongError`.
        """
        request = Request.from_options(options)
        room = self._n_ctx - min(request.stop.max_tokens or self._n_ctx // 4, self._n_ctx // 2)
        return self.from_tokens(
            raw_tokens(self._vocabulary, prompt, room, parse_special=request.parse_special), request
        )

    def from_messages(self, messages: Messages, options: ChatOptions) -> Task:
        """Task of replying to ``messages``. Raises as :meth:`from_text` does, and :class:`TemplateError`."""
        rest = cast(ChatOptions, given(options))
        thinking, continue_final = rest.pop("thinking", False), rest.pop("continue_final", False)
        if not isinstance(continue_final, bool):
            raise UsageError(f"continue_final is {continue_final!r:.40}; it must be True or False.")
        several = rest.pop("parallel_tool_calls", True)
        choice = check_choice(rest.pop("tool_choice", None), check_tools(rest.pop("tools", None)), several)
        request = Request.from_options(rest)
        if request.answer and choice.offered:
            raise UsageError("a structured answer cannot call tools; leave out tools, response_format or grammar.")
        if (request.answer or choice.forced) and continue_final:
            raise UsageError(
                "a structured answer or a call cannot continue a message; leave out continue_final (--continue)."
            )
        found = messages.chat if isinstance(messages, Prepared) else None
        prompt = found or self.prompt(cast(Sequence[Message], messages), thinking, choice.offered, continue_final)
        if choice.forced:
            request = replace(request, answer=self._calls(choice))
        return self.from_tokens(list(prompt.tokens), request, prompt, several=choice.several)

    def _calls(self, choice: Choice) -> AnswerGrammar:
        """The grammar of an answer that calls one of the forced tools."""
        assert self.conversation is not None
        assert self.conversation.call_syntax is not None
        functions = [tool["function"] for tool in choice.offered if tool["function"]["name"] in choice.forced]
        return call_grammar(self.conversation.call_syntax, functions, self._vocabulary, several=choice.several)

    def prompt(
        self, messages: Sequence[Message], thinking: bool, tools: Tools, continue_final: bool = False
    ) -> ChatPrompt:
        """Prompt of the reply to ``messages``, or of the rest of the final one, with checked ``tools``."""
        if self.conversation is None:
            raise TemplateError(
                f"{self._model} has no chat template; give one with --chat-template or --chat-template-file "
                "(chat_template in Python), or use --raw or generate()."
            )
        if tools and self.conversation.call_syntax is None:
            raise TemplateError(
                f"the chat template of {self._model} takes no tools, or writes calls in an unknown syntax; "
                "use a model of Gemma 4, Qwen 2.5, Qwen 3 or Llama 3, or leave out the tools."
            )
        messages, media = take_media(messages)
        check_messages(messages)
        check_final(messages, continued=continue_final)
        return self.conversation.prompt(
            messages,
            thinking=thinking,
            tools=tools,
            continue_final=continue_final,
            media=self._read(list(media.values())),
        )

    def _read(self, media: Sequence[Media]) -> MediaTokens | None:
        """Return the tokens of the pictures and sounds of a prompt; None if there are none."""
        if not media:
            return None
        if self.reader is None:
            raise InputError(
                f"{self._model} was loaded without a projector, so it reads no {media[0].kind}s; "
                f"give its mmproj file (--mmproj), or leave the {media[0].kind} out."
            )
        return self.reader.read(media)

    def from_tokens(
        self, tokens: list[int], request: Request, chat: ChatPrompt | None = None, *, several: bool = True
    ) -> Task:
        """Task of continuing a prompt of ``tokens``. ``several``: see :class:`Task`."""
        room = self._n_ctx - len(tokens)
        if room < 1:
            raise PromptTooLongError(
                f"the prompt has {len(tokens)} tokens, and the context holds {self._n_ctx}, the answer included; "
                "shorten it, or set a larger --ctx-size."
            )
        self._samplers.check(request.sampling)
        constraint = self._constraint(request, chat, len(tokens), room)
        sampler = self._samplers.make(request.sampling, constraint)
        syntax = self.conversation.call_syntax if self.conversation and chat and chat.tools else None
        return Task(tokens, request, room, sampler, constraint, chat, syntax, several)

    def _constraint(self, request: Request, chat: ChatPrompt | None, start: int, room: int) -> GrammarConstraint | None:
        """Grammar of a structured answer after ``start`` tokens. Raises if its budget is too small for any answer."""
        if request.answer is None:
            return None
        self._grammars = self._grammars or GrammarVocabulary(self._vocabulary)
        return GrammarConstraint(
            self._grammars,
            request.answer.grammar,
            start=start,
            room=room,
            max_tokens=request.stop.max_tokens,
            thinking=find_markers(self._vocabulary, chat.text) if chat else None,
            may_think=chat.thinking if chat else False,
        )
