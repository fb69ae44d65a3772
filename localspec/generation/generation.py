"""One answer in progress: a coroutine that yields passes and chunks, and the completion they end in.

Owns nothing native. The engine drives it, and stores its text in the conversation afterwards.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from time import perf_counter

from localspec.chat.thinking import ThinkingParser
from localspec.chat.tool_calls import ToolCallParser
from localspec.chat.tools import ToolCall, call_id, make_tool_calls
from localspec.control.base import Control
from localspec.draft.base import Drafter, Prefix
from localspec.errors import InputError
from localspec.generation.loop import ALONE, Cancelled, Load, Pass, Rules, advance, decode
from localspec.generation.pair import Pair, Setup
from localspec.generation.result import Chunk, Completion
from localspec.generation.stats import Stats
from localspec.generation.stream import Assembler
from localspec.generation.task import Task
from localspec.params import MAX_DRAFT
from localspec.protocols import Context, Rows


class Generation:
    """One answer to ``task``; ``setup`` is that of the drafters in ``pair``, if there are any."""

    def __init__(self, pair: Pair, setup: Setup, task: Task) -> None:
        self.pair, self.setup, self.task = pair, setup, task
        vocabulary, request, chat = pair.vocabulary, task.request, task.chat
        names = [tool["function"]["name"] for tool in chat.tools] if chat else []
        continued = chat.continued if chat else ""
        forced = request.answer is not None  # with tools
        self._calls = (
            ToolCallParser(task.syntax, names, begun=bool(continued), several=task.several, certain=forced)
            if task.syntax
            else None
        )
        thinking = ThinkingParser(vocabulary, chat.text, continued) if chat else None
        #: Text of the answer that the prompt holds; a thought is not part of it.
        self._continued = continued if thinking and thinking.channel == "answer" else ""
        budget = min(task.room, request.stop.max_tokens or task.room)
        self.answer = Assembler(vocabulary, request.stop.stop, budget, thinking, self._calls, self._call_id)
        self.stats = Stats(prompt_tokens=len(task.tokens))
        self._load = ALONE
        self._clocks: list[Context | Drafter] = []
        self._before: list[float] = []

    def place(self, pair: Pair, control: Control, load: Load) -> None:
        """Use another pair of the same models, before it runs; without drafters if it was made without them."""
        self.pair = pair if self.pair.drafters else replace(pair, drafters=())
        self.setup, self._load = replace(self.setup, control=control), load

    @property
    def prefilling(self) -> bool:
        """True until the first step of the loop."""
        return not self._clocks

    def run(self) -> Generator[Pass | Chunk, Rows, None]:
        """Yield passes to decode and chunks to show; the last chunk has the completion.

        Thrown :class:`Cancelled`, it ends with the tokens so far.
        """
        pair, answer, stats = self.pair, self.answer, self.stats
        chunks = iter(list[Chunk]())
        try:
            prefix = Prefix(list(self.task.tokens), self.task.sampler)
            rows = yield from self._prefill(prefix)
            self._begin()
            steps = decode(pair.target, prefix, rows, pair.drafters, self._rules())
            while answer.finish_reason is None:
                began = perf_counter()
                step = yield from advance(steps)
                stats.record(step.draft.names[: step.proposed], step.accepted)
                stats.forced += step.forced
                chunks = iter(answer.add(step))
                stats.generated_tokens = len(answer.tokens)
                stats.generate_s += perf_counter() - began  # without the time that the caller takes with a chunk
                yield from chunks
        except Cancelled:
            yield from chunks  # the rest of the step
            answer.finish_reason = answer.finish_reason or "cancelled"
        yield self._end()

    def give_up(self) -> Chunk:
        """Return the last chunk of an answer that was cancelled before it began."""
        self.answer.finish_reason = "cancelled"
        return self._end()

    def _begin(self) -> None:
        """Start a new answer in the control, and the clocks."""
        self._clocks = [self.pair.target, *self.pair.drafters]
        self._before = [clock.decode_s for clock in self._clocks]
        self.setup.control.begin()

    def _end(self) -> Chunk:
        rest, stats = self.answer.flush(), self.stats
        spent = [clock.decode_s - before for clock, before in zip(self._clocks, self._before, strict=True)]
        if spent:
            stats.target_s, stats.draft_s = spent[0], sum(spent[1:])
        return replace(rest, completion=self._completion())

    def _prefill(self, prefix: Prefix) -> Generator[Pass, Rows, Rows]:
        """Bring target and drafters up to the prompt; returns the last token's logits (1, n_vocab)."""
        began, stats, progress = perf_counter(), self.stats, self.task.request.progress
        prefill, media = self.pair.prefill, self.task.chat.media if self.task.chat else None
        rows, stats.cached_tokens = yield from prefill.run(self.pair.target, prefix.tokens, progress, media)
        for drafter in self.pair.drafters:
            drafter.observe(prefix)
        if progress is not None:
            progress(stats.prefilled_tokens, stats.prefilled_tokens)
        stats.prompt_s = perf_counter() - began
        return rows

    def _rules(self) -> Rules:
        request, setup, answer = self.task.request, self.setup, self.answer
        limits = [limit for limit in (request.draft_max, setup.draft.max) if limit is not None]
        return Rules(
            self.pair.vocabulary.is_end,
            lambda: answer.left,
            setup.control,
            min(limits, default=MAX_DRAFT),
            self.pair.reads_hidden,
            setup.passes,
            request.logprobs,
            self._load,
        )

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """Calls in the answer so far. Their ids depend on the seed and the place in the conversation alone."""
        found = self._calls.calls if self._calls else []
        return make_tool_calls([(call.name, call.arguments) for call in found], self._call_id)

    def _call_id(self, number: int) -> str:
        sampling = self.task.request.sampling
        return call_id(0 if sampling.greedy else sampling.seed or 0, len(self.task.tokens), number)

    @property
    def reusable(self) -> bool:
        """True if text and tool calls tell all that the tokens do, so the next prompt may hold the tokens."""
        return not (self.answer.thought or self.answer.cut or (self._calls and self._calls.in_call))

    def _completion(self) -> Completion:
        task, answer, reason = self.task, self.answer, self.answer.finish_reason
        assert reason is not None
        notices = [*self._notices()]
        if reason != "cancelled":
            notices += self._keep()
        if task.constraint and task.request.answer and reason != "cancelled":
            reason, notice = task.constraint.outcome([*task.tokens, *answer.tokens], reason)
            reason = "tool_calls" if reason == "stop" and self.tool_calls else reason
            notices += [*task.request.answer.notices, *([notice] if notice else [])]
        return Completion(
            text=answer.text,
            tokens=tuple(answer.tokens),
            finish_reason=reason,
            seed=task.request.sampling.seed or 0,
            exactness=self.setup.exactness,
            stats=self.stats,
            thought=answer.thought,
            notice=" ".join(notices) or None,
            logprobs=None if task.request.logprobs is None else tuple(answer.logprobs),
            tool_calls=self.tool_calls,
            continued=self._continued,
        )

    def _notices(self) -> Sequence[str]:
        found = []
        if self.answer.finish_reason == "length" and len(self.answer.tokens) == self.task.room:
            n_ctx = self.pair.target.n_ctx
            found.append(f"The context of {n_ctx} tokens is full; set a larger --ctx-size, or start anew.")
        if self._calls is not None and self._calls.malformed:
            found.append("A tool call could not be read, and was left in the text.")
        return found

    def _keep(self) -> Sequence[str]:
        """Add the finished text to the file of earlier ones; a notice where that failed, which the answer survives."""
        try:
            if self.pair.history is not None:
                self.pair.history.keep([*self.task.tokens, *self.answer.tokens])
        except InputError as error:
            return [f"The text was not kept: {error}"]
        return []
