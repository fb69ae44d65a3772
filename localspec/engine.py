"""Engine = target + drafters + tokenizer + template: the composition root of a generation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING

from localspec.chat.conversation import ChatPrompt, Conversation, PromptVocabulary
from localspec.chat.template import ChatTemplate, Message, Tools
from localspec.chat.thinking import Channels
from localspec.chat.tool_calls import ToolCalls
from localspec.chat.tools import ToolCall, ToolChoice, check_choice, check_tools, made_calls
from localspec.control.base import Control, FixedDepth
from localspec.control.controller import Controller
from localspec.control.costs import Costs
from localspec.draft.base import Drafter, Prefix
from localspec.draft.history import HistoryDrafter
from localspec.errors import BackendError, InputError, PromptTooLongError, TemplateError, UsageError
from localspec.files import file_identity
from localspec.generation.detokenize import detokenize
from localspec.generation.guard import NO_GUARD, Guard
from localspec.generation.loop import Rules, decode, prefill
from localspec.generation.options import Options, Request
from localspec.generation.result import Chunk, Completion
from localspec.generation.saved_state import SavedState, read_state, write_state
from localspec.generation.stats import Stats
from localspec.generation.stream import Assembler
from localspec.grammar.constraint import GrammarConstraint
from localspec.grammar.state import Thought
from localspec.grammar.vocabulary import GrammarVocabulary
from localspec.params import MAX_DRAFT, DraftParams, SamplingParams
from localspec.protocols import Context, Rows
from localspec.sampling import Sampler, Samplers
from localspec.types import Exactness

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True)
class ModelInfo:
    """What the target is; ``bytes`` is the size of its tensors."""

    name: str
    path: Path
    architecture: str
    description: str
    parameters: int
    bytes: int
    n_ctx_train: int
    n_vocab: int


class Engine:
    """A loaded target with its drafters. Use it as a context manager, or :meth:`close` it.

    One thread at a time. The keyword options of a generation are those of :class:`Options`. ``control`` decides how far
    each step drafts; put another in its place to fix or record that.
    """

    def __init__(
        self,
        target: Context,
        vocabulary: PromptVocabulary,
        drafters: Sequence[Drafter] = (),
        *,
        model: ModelInfo,
        template: ChatTemplate | None = None,
        draft: DraftParams | None = None,
        control: Control | None = None,
        tune: Callable[[Callable[[float], None] | None], Costs] | None = None,
        history: HistoryDrafter | None = None,
        exactness: Exactness = "off",
        guard: Guard = NO_GUARD,
        notices: Sequence[str] = (),
        batch: int = 512,
        reads_hidden: bool = False,
        close: Callable[[], None] | None = None,
    ) -> None:
        self.model, self.exactness, self.notices = model, exactness, tuple(notices)
        self.drafting = bool(drafters)
        self.vocabulary = vocabulary
        self._target, self._drafters, self._batch = target, tuple(drafters), batch
        self._draft = draft or DraftParams()
        self.control: Control = control or FixedDepth()
        self._tune, self._history = tune, history
        self.guard, self._reads_hidden, self._close = guard, reads_hidden, close
        self._conversation = Conversation(template, vocabulary) if template else None
        self._grammars: GrammarVocabulary | None = None
        self._samplers = Samplers(vocabulary)
        self._closed = False
        self._running: object = None

    @property
    def drafters(self) -> tuple[str, ...]:
        """Names of the drafters that are loaded."""
        return tuple(drafter.name for drafter in self._drafters)

    @property
    def n_ctx(self) -> int:
        """Tokens that prompt and answer may have together."""
        return self._target.n_ctx

    @property
    def costs(self) -> Costs | None:
        """What passes and drafts cost on this machine, as followed since it was loaded; None if not measured."""
        return self.control.costs if isinstance(self.control, Controller) else None

    def tune(self, progress: Callable[[float], None] | None = None) -> Costs:
        """Measure at length what passes and drafts cost, and go by that from now on, here and in later runs.

        What was cached is forgotten. Raises :class:`UsageError` where there is no drafter.
        """
        if self._tune is None:
            raise UsageError(f"{self.model.name} was loaded without a drafter, so there is nothing to tune.")
        self._running = None
        self.forget()
        costs = self._tune(progress)
        self.control = Controller(costs, self.guard.widest)
        return costs

    def tokenize(self, text: str) -> list[int]:
        """Ids of ``text``, special tokens recognised, no BOS added."""
        return self.vocabulary.tokenize(text, add_special=False)

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Text of ``tokens``; control tokens have none."""
        return detokenize(self.vocabulary, tokens)

    def prompt_tokens(
        self, messages: Sequence[Message], *, thinking: bool = False, tools: Tools | None = None
    ) -> list[int]:
        """The ids that :meth:`chat` would decode for ``messages``."""
        return list(self._chat_prompt(messages, thinking, check_tools(tools)).tokens)

    def forget(self) -> None:
        """Drop the conversation and everything cached: the next generation prefills its whole prompt."""
        self._target.rewind(0)
        if self._conversation is not None:
            self._conversation.clear()
        for drafter in self._drafters:
            drafter.observe(Prefix([], Sampler(SamplingParams(temperature=0))))

    def save_state(self, path: str | Path) -> int:
        """Keep the cache and the last chat turn in the file ``path``, for :meth:`load_state`; its size in bytes.

        Raises :class:`InputError` where nothing is cached or the file cannot be written, :class:`BackendError` where
        this kind of cache cannot be saved.
        """
        tokens = tuple(self._target.tokens)
        if not tokens:
            raise InputError("nothing is cached yet, so there is no state to save; generate something first.")
        last = self._conversation.last if self._conversation else None
        cache, backend = self._target.state(), self._target.identity()
        return write_state(
            Path(path), SavedState(self._identity(), backend, tokens, cache, vars(last) if last else None)
        )

    def load_state(self, path: str | Path) -> int:
        """Go on from what :meth:`save_state` kept: the number of tokens that need no prefill now.

        What follows is the same text as without it. Raises :class:`InputError`, and changes nothing, where the file is
        damaged or was saved with another model file, other settings or another build of llama.cpp;
        :class:`BackendError` where llama.cpp refuses it, and then nothing is cached.
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
        last = ChatPrompt.of(saved.turn) if saved.turn else None
        if self._conversation and last and max(last.tokens, default=0) < self.vocabulary.n_tokens:
            self._conversation.resume(last)
        return len(saved.tokens)

    def _identity(self) -> str:
        """Which model file the target is."""
        try:
            return file_identity(self.model.path)
        except OSError:  # a model that is no file, such as the scripted one
            return str(self.model.path)

    def generate(self, prompt: str, **options: Unpack[Options]) -> Completion:
        """Continue the text ``prompt`` (no chat template); see :meth:`stream`."""
        return _last(self.stream(prompt, **options))

    def stream(self, prompt: str, **options: Unpack[Options]) -> Iterator[Chunk]:
        """Yield what each step adds to ``prompt``; the last chunk has the completion.

        Raises :class:`PromptTooLongError`, and :class:`UsageError` for an option out of its range, when called.
        """
        request = Request.of(options)
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

        A conversation that continues the last one (its messages, the reply, then more) reuses the cache: only what is
        new is prefilled. ``tools`` are function definitions as in the OpenAI chat API; calls of them come in
        :attr:`Completion.tool_calls`, and their results go back as messages of the role ``tool``. ``tool_choice``
        ``none`` leaves them out. Raises as :meth:`stream` does, and :class:`TemplateError`.
        """
        request = Request.of(options)
        choice, offered = check_choice(tool_choice), check_tools(tools)
        if request.answer and offered and choice == "auto":
            raise UsageError("a structured answer cannot call tools; leave out tools, response_format or grammar.")
        prompt = self._chat_prompt(messages, thinking, offered if choice == "auto" else ())
        return self._chunks(list(prompt.tokens), request, prompt)

    def _chat_prompt(self, messages: Sequence[Message], thinking: bool, tools: Tools) -> ChatPrompt:
        if self._conversation is None:
            raise TemplateError(f"{self.model.name} has no chat template; use --raw, or generate() in Python.")
        if tools and self._conversation.calls is None:
            raise TemplateError(
                f"the chat template of {self.model.name} takes no tools, or writes calls in a way that is not known; "
                "use a model of Gemma 4, Qwen 2.5, Qwen 3 or Llama 3, or leave out the tools."
            )
        return self._conversation.prompt(messages, thinking=thinking, tools=tools)

    def _chunks(self, tokens: list[int], request: Request, prompt: ChatPrompt | None) -> Iterator[Chunk]:
        if self._closed:
            raise BackendError("the engine was closed; load it again.")
        room = self.n_ctx - len(tokens)
        if room < 1:
            raise PromptTooLongError(
                f"the prompt has {len(tokens)} tokens, and the context holds {self.n_ctx}, the answer included; "
                "shorten it, or set a larger --ctx-size."
            )
        self._samplers.check(request.sampling)
        constraint = self._constraint(request, prompt, len(tokens), room)
        return self._run(tokens, request, prompt, room, constraint)

    def _constraint(
        self, request: Request, prompt: ChatPrompt | None, start: int, room: int
    ) -> GrammarConstraint | None:
        """What a structured answer after ``start`` tokens may say. Raises where its budget is too small for any."""
        if request.answer is None:
            return None
        self._grammars = self._grammars or GrammarVocabulary(self.vocabulary)
        channels = Channels(self.vocabulary, prompt.text) if prompt else None
        thought = Thought(channels.pairs, channels.inside, prompt.thinking) if prompt and channels else None
        most = request.stop.max_tokens
        return GrammarConstraint(
            self._grammars, request.answer.grammar, start=start, room=room, max_tokens=most, thought=thought
        )

    def _run(
        self,
        tokens: list[int],
        request: Request,
        prompt: ChatPrompt | None,
        room: int,
        constraint: GrammarConstraint | None,
    ) -> Iterator[Chunk]:
        prefix = Prefix(list(tokens), self._samplers.make(request.sampling, constraint))
        self._running = prefix
        drafters = self._drafters if self.drafting else ()
        channels = Channels(self.vocabulary, prompt.text) if prompt else None
        budget = min(room, request.stop.max_tokens or room)
        calls = self._calls(prompt)
        answer = Assembler(self.vocabulary, request.stop.stop, budget, channels, calls)
        stats = Stats(prompt_tokens=len(tokens))
        rows = self._prefill(prefix, drafters, request, stats)

        clocks: list[Context | Drafter] = [self._target, *drafters]
        before = [clock.decode_s for clock in clocks]
        guard = self.guard if drafters else replace(NO_GUARD, widest=self.guard.widest)
        rules = Rules(
            self.vocabulary.is_end, lambda: answer.left, self.control, self._draft_max(request), self._reads_hidden,
            guard, request.logprobs,
        )  # fmt: skip
        self.control.begin()
        steps = decode(self._target, prefix, rows, drafters, rules)
        try:
            while answer.finish_reason is None:
                if self._running is not prefix:
                    raise BackendError("another generation was started on this engine; finish or close one first.")
                began = perf_counter()
                step = next(steps)
                stats.record(step.draft.names[: step.proposed], step.accepted)
                stats.near_ties += step.near_tie
                stats.forced += step.forced
                chunks = answer.add(step)
                stats.generated_tokens = len(answer.tokens)
                stats.generate_s += perf_counter() - began  # not the time that the caller takes with a chunk
                yield from chunks
            rest = answer.flush()
        finally:
            if prompt and self._conversation and self._running is prefix:
                made = self._made(calls, request, len(tokens))
                whole = not (answer.thought or answer.cut or (calls and calls.inside))
                self._conversation.replied(prompt, answer.text, answer.tokens, spliceable=whole, calls=made)
        stats.target_s, *drafted = (clock.decode_s - was for clock, was in zip(clocks, before, strict=True))
        stats.draft_s = sum(drafted)
        reason, notices = answer.finish_reason, self._notices(answer, room, calls)
        notices += self._keep(tokens, answer.tokens)
        if constraint and request.answer:
            reason, notice = constraint.outcome([*tokens, *answer.tokens], reason)
            notices += [*request.answer.notices, *([notice] if notice else [])]
        done = Completion(
            text=answer.text,
            tokens=tuple(answer.tokens),
            finish_reason=reason,
            seed=request.sampling.seed or 0,
            exactness=self.exactness if drafters else "exact",
            stats=stats,
            thought=answer.thought,
            notice=" ".join(notices) or None,
            logprobs=None if request.logprobs is None else tuple(answer.logprobs),
            tool_calls=self._made(calls, request, len(tokens)),
        )
        yield replace(rest, completion=done)

    def _prefill(self, prefix: Prefix, drafters: Sequence[Drafter], request: Request, stats: Stats) -> Rows:
        """Bring target and drafters up to the prompt; the last token's logits (1, n_vocab)."""
        began = perf_counter()
        rows, stats.cached_tokens = prefill(self._target, prefix, self._batch, request.progress)
        for drafter in drafters:
            drafter.observe(prefix)
        if request.progress is not None:
            request.progress(stats.prefilled_tokens, stats.prefilled_tokens)
        stats.prompt_s = perf_counter() - began
        return rows

    def _draft_max(self, request: Request) -> int:
        """The most draft tokens a step that request and engine allow."""
        return min([MAX_DRAFT, *(n for n in (request.draft_max, self._draft.max) if n is not None)])

    def _calls(self, prompt: ChatPrompt | None) -> ToolCalls | None:
        """What takes calls out of the answer, if there is anything to call."""
        syntax = self._conversation.calls if self._conversation and prompt and prompt.tools else None
        return ToolCalls(syntax, [tool["function"]["name"] for tool in prompt.tools]) if syntax and prompt else None

    def _made(self, calls: ToolCalls | None, request: Request, position: int) -> tuple[ToolCall, ...]:
        seed = 0 if request.sampling.greedy else request.sampling.seed or 0
        return made_calls([(call.name, call.arguments) for call in calls.found] if calls else [], seed, position)

    def _notices(self, answer: Assembler, room: int, calls: ToolCalls | None) -> list[str]:
        notices = []
        if answer.finish_reason == "length" and len(answer.tokens) == room:
            notices.append(f"The context of {self.n_ctx} tokens is full; set a larger --ctx-size, or start anew.")
        if calls is not None and calls.broken:
            notices.append("A tool call could not be read, and was left in the text.")
        return notices

    def _keep(self, prompt: Sequence[int], answer: Sequence[int]) -> list[str]:
        """Put a finished text into the file of earlier ones; what stood in the way, which does not undo the answer."""
        try:
            if self._history is not None:
                self._history.keep([*prompt, *answer])
        except InputError as error:
            return [f"What was said was not kept: {error}"]
        return []

    def close(self) -> None:
        """Free the models and their caches. May be called twice."""
        if self._closed:
            return
        self._closed = True
        for drafter in self._drafters:
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
