"""The engine: verbs and lifetime of a loaded pair, its conversation and its template."""

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from localspec.chat.conversation import ChatPrompt, Conversation
from localspec.chat.template import ChatTemplate, Message, Tools
from localspec.chat.tools import check_tools
from localspec.control.controller import Controller
from localspec.control.costs import Costs
from localspec.draft.base import Prefix
from localspec.errors import BackendError, InputError, UsageError
from localspec.files import file_identity
from localspec.generation.alone import Alone
from localspec.generation.detokenize import detokenize
from localspec.generation.generation import Generation
from localspec.generation.kept import KeptCaches
from localspec.generation.lock import EngineLock
from localspec.generation.options import ChatOptions, Options
from localspec.generation.pair import Measurement, Pair, Setup
from localspec.generation.parallel import Parallel
from localspec.generation.prompt import Messages, Prepared, RawPrompt, is_raw
from localspec.generation.result import Chunk, Completion
from localspec.generation.saved_state import SavedState, read_state, write_state
from localspec.generation.scheduler import Scheduler
from localspec.generation.task import Task, Tasks
from localspec.machines.plan import Plan
from localspec.params import SamplingParams
from localspec.protocols import Context
from localspec.sampling import Sampler

if TYPE_CHECKING:
    from typing_extensions import Unpack

_NO_COMPLETION = "the generation ended without a completion; report this."


@dataclass(frozen=True)
class ModelInfo:
    """Description of the target. ``parameters``: their count. ``bytes``: size of its tensors.

    ``plan``: which machine holds which layers, if there are several.
    """

    name: str
    path: Path
    architecture: str
    description: str
    parameters: int
    bytes: int
    n_ctx_train: int
    n_vocab: int
    plan: Plan | None = None


class Engine:
    """A loaded pair. Use it as a context manager, or :meth:`close` it.

    Any thread may call any verb. Calls of other threads wait in order; an open stream of the same thread ends, and
    raises :class:`BackendError` when it is resumed. Callbacks may not call verbs except :meth:`stop` and :meth:`close`.
    An engine that was loaded with ``parallel`` answers so many calls at the same time, with the tokens that each has
    alone: no stream ends for another call, and none waits for its consumer.
    The keyword options of a generation are those of :class:`Options`. ``control`` decides how far each step drafts;
    replace it to fix or record that. ``drafting`` switches the drafters off and on.
    """

    def __init__(
        self,
        pair: Pair,
        setup: Setup | None = None,
        measurement: Measurement | None = None,
        *,
        model: ModelInfo,
        template: ChatTemplate | None = None,
        close: Callable[[], None] | None = None,
        scheduler: Scheduler | None = None,
        kept: KeptCaches | None = None,
    ) -> None:
        """``measurement``: of the pair, between answers. ``close`` frees what the pair needs beyond its contexts.

        ``scheduler``: of several pairs like this, the first of them, that answer at the same time. ``kept``: caches of
        earlier conversations of a pair alone.
        """
        setup = setup or Setup()
        self._pair, self._measurement = pair, measurement
        self._decide(setup)
        self.model, self.vocabulary = model, pair.vocabulary
        self.control, self.drafting = setup.control, bool(pair.drafters)
        conversation = Conversation(template, pair.vocabulary) if template else None
        n_ctx, self._reader = pair.target.n_ctx, pair.reader
        self._tasks = Tasks(pair.vocabulary, conversation, model=model.name, n_ctx=n_ctx, reader=pair.reader)
        self._lock = EngineLock()
        self._runner: Alone | Parallel = Alone(self._lock, self._tasks, measurement, kept)
        self._pairs: tuple[Pair, ...] = (pair,)
        if scheduler is not None:
            self._runner = Parallel(self._lock, scheduler, measurement)
            self._pairs = tuple(slot.pair for slot in scheduler.slots)
        # At exit the engine is closed before its contexts are freed, and so is one that is collected.
        self._closing = weakref.finalize(self, _close, self._lock, self._runner, measurement, self._pairs, close)

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

        ``progress`` is called with the share done, 0 to 1. Raises :class:`UsageError` without a drafter.
        """
        self.measure()
        if self._setup.tune is None:
            raise UsageError(f"{self.model.name} was loaded without a drafter, so there is nothing to tune.")
        with self._lock.exclusive(stoppable=True) as use:

            def check(share: float) -> None:
                if use.stopped:
                    raise BackendError("the measurement was stopped; nothing has changed.")
                if progress is not None:
                    progress(share)

            costs = self._setup.tune(check)
            self.control = Controller(costs, self.passes.widest)
        return costs

    def tokenize(self, text: str, *, add_special: bool = False, parse_special: bool = True) -> list[int]:
        """Return the ids of ``text``. ``add_special`` adds the BOS of models that have one."""
        with self._lock.vocabulary():
            return self.vocabulary.tokenize(text, add_special=add_special, parse_special=parse_special)

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Return the text of ``tokens``. Control tokens have none."""
        with self._lock.vocabulary():
            return detokenize(self.vocabulary, tokens)

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes of ``token``, which may be part of a character. Those of a control token are its name."""
        with self._lock.vocabulary():
            return self.vocabulary.piece(token) or (self.vocabulary.control_text(token) or "").encode()

    def prompt_tokens(
        self,
        messages: Sequence[Message],
        *,
        thinking: bool = False,
        tools: Tools | None = None,
        continue_final: bool = False,
    ) -> list[int]:
        """Return the ids of the prompt that :meth:`chat` makes of ``messages``."""
        with self._lock.vocabulary():
            return list(self._tasks.prompt(messages, thinking, check_tools(tools), continue_final).tokens)

    def prompt_text(
        self,
        messages: Sequence[Message],
        *,
        thinking: bool = False,
        tools: Tools | None = None,
        continue_final: bool = False,
    ) -> str:
        """Return the text of that prompt, as the chat template writes it, control tokens included."""
        with self._lock.vocabulary():
            return self._tasks.prompt(messages, thinking, check_tools(tools), continue_final).text

    def prepare(self, prompt: RawPrompt | Messages, **options: Unpack[ChatOptions]) -> Prepared:
        """Tokenize a prompt once: the result stands for it in other calls, with the same options.

        Raises what :meth:`stream` or :meth:`stream_chat` would raise for it, also while another thread generates.
        """
        with self._lock.vocabulary():
            make = self._tasks.from_text if is_raw(prompt) else self._tasks.from_messages
            task = make(prompt, options)  # type: ignore[arg-type]  # is_raw told which
            return Prepared(tuple(task.tokens), task.chat)

    def check(self, prompt: RawPrompt | Messages, **options: Unpack[ChatOptions]) -> int:
        """Return the number of tokens of a prompt; see :meth:`prepare`."""
        return len(self.prepare(prompt, **options).tokens)

    @property
    def media(self) -> frozenset[str]:
        """Kinds of media that the model reads besides text: ``picture``, ``sound``."""
        return self._reader.kinds if self._reader else frozenset()

    def free_media(self) -> None:
        """Free the projector. The next picture or sound loads it again; the cache keeps those that it has."""
        with self._lock.exclusive():
            if self._reader is not None:
                self._reader.free()

    def forget(self) -> None:
        """Drop the conversation and the cache. The next generation prefills its whole prompt."""
        with self._lock.exclusive():
            self._forget()

    def _forget(self) -> None:
        if self._tasks.conversation is not None:
            self._tasks.conversation.clear()
        self._runner.forget()
        for pair in self._pairs:
            pair.target.rewind(0)
            for drafter in pair.drafters:
                drafter.observe(Prefix([], Sampler(SamplingParams(temperature=0))))

    def save_state(self, path: str | Path) -> int:
        """Write the cache and the last chat turn to ``path``, for :meth:`load_state`. Returns the file's bytes.

        An open stream of this thread goes on afterwards. Raises :class:`InputError` if nothing is cached or the file
        cannot be written, :class:`BackendError` if this kind of cache cannot be saved.
        """
        self._check_alone()
        prefill = self._pair.prefill
        with self._lock.beside_stream():
            tokens = tuple(self._target.tokens)
            if not tokens:
                raise InputError("nothing is cached yet, so there is no state to save; generate something first.")
            last = self._tasks.conversation.last if self._tasks.conversation else None
            cache, backend = self._target.state(), self._target.identity()
            chunk, prefilled = prefill.chunk, prefill.prefilled
        turn = vars(last) if last else None
        saved = SavedState(self._identity(), backend, tokens, cache, turn, chunk, prefilled)
        return write_state(Path(path), saved)

    def load_state(self, path: str | Path) -> int:
        """Restore what :meth:`save_state` wrote. Returns the number of tokens that need no prefill now.

        The text that follows is the same as without it. Raises :class:`InputError`, and changes nothing, if the file is
        damaged or was saved with another model file, other settings or another build of llama.cpp. Raises
        :class:`BackendError` if llama.cpp refuses the cache, which is empty then.
        """
        self._check_alone()
        saved = read_state(Path(path))
        if saved.model != self._identity():
            raise InputError(f"{path} was saved with another model; the cache is of no use for {self.model.name}.")
        if saved.backend != self._target.identity():
            raise InputError(f"{path} was saved with other settings (context size, threads, device) or llama.cpp.")
        if not all(token < self.vocabulary.n_tokens for token in saved.tokens):
            raise InputError(f"{path} holds tokens that {self.model.name} does not have; save it again.")
        last = ChatPrompt.from_dict(saved.turn) if saved.turn else None
        with self._lock.exclusive():
            self._forget()
            self._target.restore(saved.cache, saved.tokens)
            if self._setup.chunk is not None:
                self._pair.prefill.use_chunk(self._setup.chunk)
            reusable = self._pair.prefill.restore(len(saved.tokens), saved.chunk, saved.prefilled)
            if self._tasks.conversation and last and max(last.tokens, default=0) < self.vocabulary.n_tokens:
                self._tasks.conversation.resume(last)
        return reusable

    def _check_alone(self) -> None:
        if len(self._pairs) > 1:
            raise UsageError("an engine of several conversations cannot save or load one; load it with parallel=1.")

    def _identity(self) -> str:
        """Identity of the target's file."""
        try:
            return file_identity(self.model.path)
        except OSError:  # a model that is no file, such as the scripted one
            return str(self.model.path)

    def generate(self, prompt: RawPrompt, **options: Unpack[Options]) -> Completion:
        """Continue ``prompt`` (no chat template), a text or token ids; see :meth:`stream`."""
        return _completion(self._run(self._text(prompt, options)))

    def stream(self, prompt: RawPrompt, **options: Unpack[Options]) -> Generator[Chunk, None, None]:
        """Yield the chunks that continue ``prompt``; the last one has the completion.

        The call itself raises :class:`PromptTooLongError`, :class:`UsageError` for an option outside its range, and
        :class:`InputError`. The stream takes its place among other callers with its first chunk and keeps it until it
        ends, is closed or is collected.
        """
        return self._run(self._text(prompt, options))

    def chat(self, messages: Messages, **options: Unpack[ChatOptions]) -> Completion:
        """Reply to ``messages``; see :meth:`stream_chat`."""
        return _completion(self._run(self._chat(messages, options)))

    def stream_chat(self, messages: Messages, **options: Unpack[ChatOptions]) -> Generator[Chunk, None, None]:
        """Yield the reply to ``messages``, a list of ``{"role", "content"}``, by the model's chat template.

        A conversation that continues the last one (its messages, the reply, then more) prefills only the new messages.
        With ``continue_final`` the answer continues the final message, which is the assistant's then.
        :attr:`Completion.tool_calls` are the model's calls of ``tools``; results are messages of the role ``tool``.
        Raises as :meth:`stream` does, and :class:`TemplateError`.
        """
        return self._run(self._chat(messages, options))

    async def agenerate(self, prompt: RawPrompt, **options: Unpack[Options]) -> Completion:
        """:meth:`generate` that does not block the event loop. Cancelling the task ends it between two passes."""
        return await self._in_background(options, lambda: self._text(prompt, options))

    def astream(self, prompt: RawPrompt, **options: Unpack[Options]) -> AsyncGenerator[Chunk, None]:
        """:meth:`stream` that does not block the event loop, nor wait for the consumer of a chunk."""
        return self._runner.astream(lambda: self._text(prompt, options), options.get("cancel"))

    async def achat(self, messages: Messages, **options: Unpack[ChatOptions]) -> Completion:
        """:meth:`chat` that does not block the event loop. Cancelling the task ends it between two passes."""
        return await self._in_background(options, lambda: self._chat(messages, options))

    def astream_chat(self, messages: Messages, **options: Unpack[ChatOptions]) -> AsyncGenerator[Chunk, None]:
        """:meth:`stream_chat` that does not block the event loop, nor wait for the consumer of a chunk."""
        return self._runner.astream(lambda: self._chat(messages, options), options.get("cancel"))

    def stop(self) -> None:
        """End every generation that runs or waits, from any thread; its finish reason is ``cancelled``.

        A running one ends after its pass. An open stream loses its place at once, and its next chunk is its last.
        """
        self._lock.stop()
        self._runner.stop()

    def _text(self, prompt: RawPrompt, options: Options) -> Generation:
        with self._lock.vocabulary():
            return self._generation(self._tasks.from_text(prompt, options))

    def _chat(self, messages: Messages, options: ChatOptions) -> Generation:
        with self._lock.vocabulary():
            return self._generation(self._tasks.from_messages(messages, options))

    def _generation(self, task: Task) -> Generation:
        self._adopt()
        pair, setup = self._pair, replace(self._setup, control=self.control)
        wanted = self.drafting and bool(pair.drafters)
        if not (wanted and setup.drafts):
            pair, setup = replace(pair, drafters=()), setup.plain()
        generation = Generation(pair, setup, task)
        generation.stats.unmeasured = int(wanted and not setup.drafts)
        return generation

    def _adopt(self) -> None:
        """Use what was measured since the last answer. A control that the user has set stays."""
        found = self._measurement.news() if self._measurement else None
        if found is not None:
            self.control = found.control if self.control is self._setup.control else self.control
            self._decide(found)

    def _decide(self, setup: Setup) -> None:
        """Follow these decisions from the next answer on."""
        self._setup, self.notices = setup, setup.notices
        self.exactness, self.difference, self.passes = setup.exactness, setup.difference, setup.passes

    def measure(self, seconds: float | None = None, *, whole: bool = True) -> bool:
        """Wait until exactness and costs of the pair are measured, at most ``seconds``; returns False if they are not.

        ``whole`` False: without what later turns of a conversation need besides, which is measured as they come.

        A pair that is new on this machine drafts only when its passes are proved to be exact. That is measured in a
        thread between answers, which an answer interrupts, and remembered. Raises the measurement's
        :class:`BackendError`, for example without enough memory.
        """
        done = self._measurement is None or self._measurement.wait(seconds, whole=whole)
        self._adopt()
        return done

    def _run(self, generation: Generation) -> Generator[Chunk, None, None]:
        """Yield the chunks of ``generation``. The stream refers to the engine, which is not collected before."""
        yield from self._runner.stream(generation)

    async def _in_background(self, options: Options, prepare: Callable[[], Generation]) -> Completion:
        async with aclosing(self._runner.astream(prepare, options.get("cancel"))) as chunks:
            async for chunk in chunks:
                if chunk.completion is not None:
                    return chunk.completion
        raise BackendError(_NO_COMPLETION)

    def close(self) -> None:
        """Cancel what runs, then free the models and their caches. May be called twice."""
        self._closing()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _completion(chunks: Iterator[Chunk]) -> Completion:
    for chunk in chunks:
        if chunk.completion is not None:
            return chunk.completion
    raise BackendError(_NO_COMPLETION)


def _close(
    lock: EngineLock,
    runner: Alone | Parallel,
    measurement: Measurement | None,
    pairs: Sequence[Pair],
    close: Callable[[], None] | None,
) -> None:
    def free() -> None:
        runner.close()
        if measurement is not None:
            measurement.close()
        for pair in pairs:
            for drafter in pair.drafters:
                drafter.close()
            pair.target.close()
            if pair.reader is not None:
                pair.reader.free()
        if close is not None:
            close()

    lock.close(free)
