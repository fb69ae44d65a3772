"""The engine: verbs and lifetime of a loaded pair, its conversation and its template."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from localspec.chat.conversation import ChatPrompt, Conversation
from localspec.chat.template import ChatTemplate, Message, Tools
from localspec.chat.thinking import find_markers
from localspec.chat.tools import ToolChoice, check_choice, check_tools
from localspec.control.controller import Controller
from localspec.control.costs import Costs
from localspec.draft.base import Prefix
from localspec.errors import BackendError, InputError, PromptTooLongError, TemplateError, UsageError
from localspec.files import file_identity
from localspec.generation.detokenize import detokenize
from localspec.generation.generation import Generation, Task
from localspec.generation.loop import drive
from localspec.generation.options import Options, Request
from localspec.generation.pair import Pair, Setup
from localspec.generation.result import Chunk, Completion
from localspec.generation.saved_state import SavedState, read_state, write_state
from localspec.grammar.constraint import GrammarConstraint
from localspec.grammar.vocabulary import GrammarVocabulary
from localspec.params import SamplingParams
from localspec.protocols import Context
from localspec.sampling import Sampler, Samplers

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True)
class ModelInfo:
    """Description of the target. ``parameters``: their count. ``bytes``: size of its tensors."""

    name: str
    path: Path
    architecture: str
    description: str
    parameters: int
    bytes: int
    n_ctx_train: int
    n_vocab: int


class Engine:
    """A loaded pair. Use it as a context manager, or :meth:`close` it. One thread at a time.

    The keyword options of a generation are those of :class:`Options`. ``control`` decides how far each step drafts;
    replace it to fix or record that. ``drafting`` switches the drafters off and on.
    """

    def __init__(
        self,
        pair: Pair,
        setup: Setup | None = None,
        *,
        model: ModelInfo,
        template: ChatTemplate | None = None,
        close: Callable[[], None] | None = None,
    ) -> None:
        """``close`` frees what the pair needs beyond its contexts and drafters."""
        setup = setup or Setup()
        self._pair, self._setup, self._close = pair, setup, close
        self.model, self.vocabulary = model, pair.vocabulary
        self.exactness, self.guard, self.notices = setup.exactness, setup.guard, setup.notices
        self.control, self.drafting = setup.control, bool(pair.drafters)
        self._conversation = Conversation(template, pair.vocabulary) if template else None
        self._grammars: GrammarVocabulary | None = None
        self._samplers = Samplers(pair.vocabulary)
        self._closed = False
        self._running: object = None

    @property
    def drafters(self) -> tuple[str, ...]:
        """Names of the loaded drafters."""
        return tuple(drafter.name for drafter in self._pair.drafters)

    @property
    def _target(self) -> Context:
        return self._pair.target

    @property
    def n_ctx(self) -> int:
        """Most tokens of prompt and answer together."""
        return self._target.n_ctx

    @property
    def costs(self) -> Costs | None:
        """Costs of passes and drafts on this machine, updated while generating; None if not measured."""
        return self.control.costs if isinstance(self.control, Controller) else None

    def tune(self, progress: Callable[[float], None] | None = None) -> Costs:
        """Measure the costs of passes and drafts at length; this and later processes draft by them.

        ``progress`` is called with the share done, 0 to 1. Empties the cache. Raises :class:`UsageError` without a
        drafter.
        """
        if self._setup.tune is None:
            raise UsageError(f"{self.model.name} was loaded without a drafter, so there is nothing to tune.")
        self._running = None
        self.forget()
        costs = self._setup.tune(progress)
        self.control = Controller(costs, self.guard.widest)
        return costs

    def tokenize(self, text: str) -> list[int]:
        """Return the ids of ``text``. Special tokens are recognised; no BOS is added."""
        return self.vocabulary.tokenize(text, add_special=False)

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Return the text of ``tokens``. Control tokens have none."""
        return detokenize(self.vocabulary, tokens)

    def prompt_tokens(
        self, messages: Sequence[Message], *, thinking: bool = False, tools: Tools | None = None
    ) -> list[int]:
        """Return the ids of the prompt that :meth:`chat` makes of ``messages``."""
        return list(self._chat_prompt(messages, thinking, check_tools(tools)).tokens)

    def forget(self) -> None:
        """Drop the conversation and the cache. The next generation prefills its whole prompt."""
        self._target.rewind(0)
        if self._conversation is not None:
            self._conversation.clear()
        for drafter in self._pair.drafters:
            drafter.observe(Prefix([], Sampler(SamplingParams(temperature=0))))

    def save_state(self, path: str | Path) -> int:
        """Write the cache and the last chat turn to ``path``, for :meth:`load_state`. Returns the file's bytes.

        Raises :class:`InputError` if nothing is cached or the file cannot be written, :class:`BackendError` if this
        kind of cache cannot be saved.
        """
        tokens = tuple(self._target.tokens)
        if not tokens:
            raise InputError("nothing is cached yet, so there is no state to save; generate something first.")
        last = self._conversation.last if self._conversation else None
        cache, backend, prefill = self._target.state(), self._target.identity(), self._pair.prefill
        turn = vars(last) if last else None
        saved = SavedState(self._identity(), backend, tokens, cache, turn, prefill.chunk, prefill.prefilled)
        return write_state(Path(path), saved)

    def load_state(self, path: str | Path) -> int:
        """Restore what :meth:`save_state` wrote. Returns the number of tokens that need no prefill now.

        The text that follows is the same as without it. Raises :class:`InputError`, and changes nothing, if the file is
        damaged or was saved with another model file, other settings or another build of llama.cpp. Raises
        :class:`BackendError` if llama.cpp refuses the cache, which is empty then.
        """
        saved = read_state(Path(path))
        if saved.model != self._identity():
            raise InputError(f"{path} was saved with another model; the cache is of no use for {self.model.name}.")
        if saved.backend != self._target.identity():
            raise InputError(f"{path} was saved with other settings (context size, threads, device) or llama.cpp.")
        if not all(0 <= token < self.vocabulary.n_tokens for token in saved.tokens):
            raise InputError(f"{path} holds tokens that {self.model.name} does not have; save it again.")
        self._running = None
        self.forget()
        self._target.restore(saved.cache, saved.tokens)
        reusable = self._pair.prefill.restore(len(saved.tokens), saved.chunk, saved.prefilled)
        last = ChatPrompt.from_dict(saved.turn) if saved.turn else None
        if self._conversation and last and max(last.tokens, default=0) < self.vocabulary.n_tokens:
            self._conversation.resume(last)
        return reusable

    def _identity(self) -> str:
        """Identity of the target's file."""
        try:
            return file_identity(self.model.path)
        except OSError:  # a model that is no file, such as the scripted one
            return str(self.model.path)

    def generate(self, prompt: str, **options: Unpack[Options]) -> Completion:
        """Continue the text ``prompt`` (no chat template); see :meth:`stream`."""
        return _last(self.stream(prompt, **options))

    def stream(self, prompt: str, **options: Unpack[Options]) -> Iterator[Chunk]:
        """Yield the chunks that continue ``prompt``; the last one has the completion.

        The call itself raises :class:`PromptTooLongError`, :class:`UsageError` for an option outside its range, and
        :class:`InputError`.
        """
        request = Request.from_options(options)
        if not isinstance(prompt, str):
            raise InputError(f"the prompt is {type(prompt).__name__!r}; it must be text.")
        tokens = self.vocabulary.tokenize(prompt, add_special=True)
        if not tokens:
            raise InputError("the prompt is empty; give at least one token of text.")
        return self._chunks(tokens, request, None)

    def chat(
        self,
        messages: Sequence[Message],
        *,
        thinking: bool = False,
        tools: Tools | None = None,
        tool_choice: ToolChoice | None = None,
        **options: Unpack[Options],
    ) -> Completion:
        """Reply to ``messages``; see :meth:`stream_chat`."""
        return _last(self.stream_chat(messages, thinking=thinking, tools=tools, tool_choice=tool_choice, **options))

    def stream_chat(
        self,
        messages: Sequence[Message],
        *,
        thinking: bool = False,
        tools: Tools | None = None,
        tool_choice: ToolChoice | None = None,
        **options: Unpack[Options],
    ) -> Iterator[Chunk]:
        """Yield the reply to ``messages``, a list of ``{"role", "content"}``, by the model's chat template.

        A conversation that continues the last one (its messages, the reply, then more) prefills only the new messages.
        ``tools``: function definitions as in the OpenAI chat API. :attr:`Completion.tool_calls` returns their calls;
        results are messages of the role ``tool``. ``tool_choice`` ``none`` offers no tools. Raises as :meth:`stream`
        does, and :class:`TemplateError`.
        """
        request = Request.from_options(options)
        choice, offered = check_choice(tool_choice), check_tools(tools)
        if request.answer and offered and choice == "auto":
            raise UsageError("a structured answer cannot call tools; leave out tools, response_format or grammar.")
        prompt = self._chat_prompt(messages, thinking, offered if choice == "auto" else ())
        return self._chunks(list(prompt.tokens), request, prompt)

    def _chat_prompt(self, messages: Sequence[Message], thinking: bool, tools: Tools) -> ChatPrompt:
        if self._conversation is None:
            raise TemplateError(f"{self.model.name} has no chat template; use --raw, or generate() in Python.")
        if tools and self._conversation.call_syntax is None:
            raise TemplateError(
                f"the chat template of {self.model.name} takes no tools, or writes calls in an unknown syntax; "
                "use a model of Gemma 4, Qwen 2.5, Qwen 3 or Llama 3, or leave out the tools."
            )
        return self._conversation.prompt(messages, thinking=thinking, tools=tools)

    def _chunks(self, tokens: list[int], request: Request, chat: ChatPrompt | None) -> Iterator[Chunk]:
        """Check the request before the first pass."""
        if self._closed:
            raise BackendError("the engine was closed; load it again.")
        room = self.n_ctx - len(tokens)
        if room < 1:
            raise PromptTooLongError(
                f"the prompt has {len(tokens)} tokens, and the context holds {self.n_ctx}, the answer included; "
                "shorten it, or set a larger --ctx-size."
            )
        self._samplers.check(request.sampling)
        constraint = self._constraint(request, chat, len(tokens), room)
        sampler = self._samplers.make(request.sampling, constraint)
        syntax = self._conversation.call_syntax if self._conversation and chat and chat.tools else None
        return self._run(Task(tokens, request, room, sampler, constraint, chat, syntax))

    def _constraint(self, request: Request, chat: ChatPrompt | None, start: int, room: int) -> GrammarConstraint | None:
        """Grammar of a structured answer after ``start`` tokens. Raises if its budget is too small for any answer."""
        if request.answer is None:
            return None
        self._grammars = self._grammars or GrammarVocabulary(self.vocabulary)
        return GrammarConstraint(
            self._grammars,
            request.answer.grammar,
            start=start,
            room=room,
            max_tokens=request.stop.max_tokens,
            thinking=find_markers(self.vocabulary, chat.text) if chat else None,
            may_think=chat.thinking if chat else False,
        )

    def _run(self, task: Task) -> Iterator[Chunk]:
        pair, setup = self._pair, replace(self._setup, control=self.control)
        if not (self.drafting and pair.drafters):
            pair, setup = replace(pair, drafters=()), setup.plain()
        generation = self._running = Generation(pair, setup, task)
        chunks = drive(pair.target, generation.run())
        try:
            for chunk in chunks:
                if chunk.completion is not None:
                    continue  # not before the conversation has the reply
                yield chunk
                if self._running is not generation:
                    raise BackendError("another generation was started on this engine; finish or close one first.")
        finally:
            if self._running is generation:
                self._reply(generation, task)
        yield chunk

    def _reply(self, generation: Generation, task: Task) -> None:
        """Store the reply in the conversation, also one that was cut short, unless it had not begun."""
        answer = generation.answer
        if task.chat and self._conversation and (answer.tokens or answer.finish_reason):
            calls, reusable = generation.tool_calls, generation.reusable
            self._conversation.add_reply(task.chat, answer.text, answer.tokens, reusable=reusable, calls=calls)

    def close(self) -> None:
        """Free the models and their caches. May be called twice."""
        if self._closed:
            return
        self._closed = True
        for drafter in self._pair.drafters:
            drafter.close()
        self._target.close()
        if self._close is not None:
            self._close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _last(chunks: Iterator[Chunk]) -> Completion:
    for chunk in chunks:
        if chunk.completion is not None:
            return chunk.completion
    raise BackendError("the generation ended without a completion; report this.")
