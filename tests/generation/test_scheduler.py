"""Laws of the scheduler: load changes no answer, nobody waits longer than a chunk, nothing of another gets in."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localspec.control.base import Budget, FixedDepth
from localspec.draft.base import Draft, Drafter, Prefix
from localspec.errors import BackendError
from localspec.generation.generation import Generation
from localspec.generation.kept import KeptCaches
from localspec.generation.options import Request
from localspec.generation.pair import Pair, Setup
from localspec.generation.passes import PassShape
from localspec.generation.prefill import CHUNK, Prefill
from localspec.generation.result import Chunk, Completion
from localspec.generation.scheduler import Scheduler
from localspec.generation.slots import Job, Stops
from localspec.generation.task import Task
from localspec.sampling import Sampler
from localspec.testing import ScriptedContext, ScriptedDrafter, ScriptedSequences, ScriptedVocabulary, chain_logits
from tests.helpers.width_context import WidthContext

N_VOCAB = 64
LOGITS = chain_logits(N_VOCAB, 3)
VOCABULARY = ScriptedVocabulary(N_VOCAB, ends=[7])
#: Whole chunks that prompts share, and where they part.
SHARED = [(5 * i) % 61 for i in range(4 * CHUNK)]


def drafters(kind: str) -> tuple[Drafter, ...]:
    """One that is often right, one that is always wrong, or none."""
    if kind == "none":
        return ()
    if kind == "wrong":
        return (ScriptedDrafter(lambda tokens: [(token + 1) % N_VOCAB for token in tokens[-5:]]),)

    def right(tokens: list[int]) -> Sequence[int]:
        found = list(tokens)
        for _ in range(1 + len(tokens) % 5):
            found.append(int(LOGITS(tuple(found)).argmax()))
        return found[len(tokens) :]

    return (ScriptedDrafter(right),)


class Bench:
    """A scheduler on scripted sequences, and what its jobs delivered."""

    def __init__(
        self,
        contexts: Sequence[ScriptedContext],
        *,
        kind: str = "none",
        together: int = 64,
        exact: int = 64,
        chunk: int = 1,
        setup: Setup | None = None,
        width: int = 256,
        kept: int = 0,
    ) -> None:
        self.sequences = ScriptedSequences(contexts, exact)
        self.setup = setup or Setup("exact", control=FixedDepth(4), together=together, chunk=chunk)
        prefills = [Prefill(width, width) for _ in contexts]
        self.pairs = [
            Pair(context, VOCABULARY, drafters(kind), prefill=prefill)
            for context, prefill in zip(contexts, prefills, strict=True)
        ]
        self.scheduler, self.stops = Scheduler(self.sequences, self.pairs, KeptCaches(kept)), Stops()

    def add(self, prompt: Sequence[int], **options: Any) -> Answer:
        request = Request.from_options({"max_tokens": 10, "temperature": 0, **options})  # type: ignore[typeddict-item]
        task = Task(list(prompt), request, 4096 - len(prompt), Sampler(request.sampling))
        answer = Answer()
        answer.job = Job(Generation(self.pairs[0], self.setup, task), answer.deliver, self.stops)
        self.scheduler.add(answer.job)
        return answer

    def run(self) -> None:
        while self.scheduler.busy:
            self.scheduler.step()


class Answer:
    """What one job delivered."""

    job: Job

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.error: BaseException | None = None

    def deliver(self, found: Chunk | BaseException) -> None:
        assert not self.over
        if isinstance(found, BaseException):
            self.error = found
        else:
            self.chunks.append(found)

    @property
    def over(self) -> bool:
        return self.error is not None or bool(self.chunks and self.chunks[-1].completion)

    @property
    def done(self) -> Completion:
        assert self.error is None
        completion = self.chunks[-1].completion
        assert completion is not None
        assert tuple(token for chunk in self.chunks for token in chunk.tokens) == completion.tokens
        return completion

    @property
    def tokens(self) -> tuple[int, ...]:
        return self.done.tokens


def plain(count: int) -> list[ScriptedContext]:
    return [ScriptedContext(LOGITS, N_VOCAB) for _ in range(count)]


def alone(prompt: Sequence[int], make: Callable[[], ScriptedContext] | None = None, **options: Any) -> tuple[int, ...]:
    """Tokens of an answer of a scheduler that has nothing else to do."""
    given = {name: options.pop(name) for name in ("chunk", "width", "kind") if name in options}
    bench = Bench([make() if make else ScriptedContext(LOGITS, N_VOCAB)], **given)
    answer = bench.add(prompt, **options)
    bench.run()
    return answer.tokens


def endless(count: int) -> list[list[int]]:
    """Prompts whose answers do not end of themselves within ten tokens."""
    return [[i] for i in range(50) if len(alone([i])) == 10][:count]


#: A prompt: how much of the shared part, then tokens of its own.
PROMPTS = st.tuples(st.integers(0, len(SHARED)), st.lists(st.integers(0, 9), min_size=1, max_size=80)).map(
    lambda cut: [*SHARED[: cut[0]], *cut[1]]
)
SAMPLING = st.sampled_from([{"temperature": 0}, {"temperature": 0.9, "seed": 4}])
#: Answers to come: prompt, options, and the steps of the scheduler before it.
ARRIVALS = st.lists(st.tuples(PROMPTS, SAMPLING, st.integers(0, 4)), min_size=1, max_size=7)


# The same text.


@given(ARRIVALS, st.integers(1, 4), st.sampled_from(["none", "right", "wrong"]), st.sampled_from([1, 3, 8, 64]))
@settings(max_examples=80, deadline=None)
def test_answers_are_those_of_a_run_alone(arrivals: Any, slots: int, kind: str, together: int) -> None:
    """At any load, with any drafter, where rows of a pass of more than ``together`` rows are wrong."""
    bench = Bench(plain(slots), kind=kind, together=together, exact=together)
    answers = []
    for prompt, sampling, steps in arrivals:
        answers.append(bench.add(prompt, **sampling))
        for _ in range(steps):
            bench.scheduler.step()
    bench.run()
    assert [answer.tokens for answer in answers] == [alone(prompt, **sampling) for prompt, sampling, _ in arrivals]
    assert max(bench.sequences.passes, default=0) <= together


class Valuing(FixedDepth):
    """A control that values its drafts, differently at each place, and notes how many tokens were verified."""

    def __init__(self) -> None:
        super().__init__(4)
        self.made: list[int] = []
        self.verified: list[int] = []

    def draft(self, prefix: Prefix, drafters: Sequence[Drafter], budget: Budget) -> Draft:
        found = super().draft(prefix, drafters, budget)
        self.made.append(len(found.tokens))
        gains = tuple((len(prefix.tokens) + 3 * i) % 5 - 1.0 for i in range(len(found.tokens)))
        return replace(found, gains=gains)

    def learn(self, draft: Draft, accepted: int, budget: Budget, target_s: float, confidence: Any = None) -> None:
        assert len(draft.gains) == len(draft.names) == len(draft.confidences) == len(draft.tokens) >= accepted
        self.verified.append(len(draft.tokens))


@given(ARRIVALS, st.integers(1, 4), st.sampled_from(["right", "wrong"]), st.sampled_from([1, 8]))
@settings(max_examples=60, deadline=None)
def test_drafts_that_were_cut_change_no_answer(arrivals: Any, slots: int, kind: str, width: int) -> None:
    """Neither in passes of a fixed width."""
    setup = Setup("exact", PassShape.fixed(width), control=Valuing(), together=8, chunk=64 if width > 1 else 1)
    bench = Bench(plain(slots), kind=kind, setup=setup, exact=8)
    answers = []
    for prompt, sampling, steps in arrivals:
        answers.append(bench.add(prompt, **sampling))
        for _ in range(steps):
            bench.scheduler.step()
    bench.run()
    assert [answer.tokens for answer in answers] == [alone(prompt, **sampling) for prompt, sampling, _ in arrivals]


def test_drafts_are_cut_beside_others_alone() -> None:
    """Where they are worth less than their rows."""
    for count in (1, 3):
        control = Valuing()
        bench = Bench(plain(3), kind="right", setup=Setup("exact", control=control, together=64))
        for prompt in endless(count):
            bench.add(prompt)
        bench.run()
        assert (sum(control.verified) < sum(control.made)) == (count > 1)


def test_a_limit_that_is_too_wide_would_be_seen() -> None:
    """The law above can fail."""
    bench = Bench(plain(4), together=64, exact=3)
    answers = [bench.add([i, 2, 3]) for i in range(4)]
    bench.run()
    assert [answer.tokens for answer in answers] != [alone([i, 2, 3]) for i in range(4)]


@given(ARRIVALS, st.integers(2, 4), st.sampled_from(["none", "right", "wrong"]), st.sampled_from([2, 4, 8]))
@settings(max_examples=60, deadline=None)
def test_passes_of_fixed_width_are_shared(arrivals: Any, slots: int, kind: str, width: int) -> None:
    """They have exactly that width, all rows are computed, and answers are those of a run alone."""
    setup = Setup("exact", PassShape.fixed(width), control=FixedDepth(3), together=width, chunk=64)
    bench = Bench(plain(slots), kind=kind, setup=setup, exact=width)
    computed = list[bool]()
    original = bench.sequences.decode

    def decode(first: int, width: int, passes: Any) -> Any:
        computed.extend(item is not None and item[1] == "all" and len(item[0]) == width for item in passes)
        return original(first, width, passes)

    bench.sequences.decode = decode  # type: ignore[method-assign]
    answers = []
    for prompt, sampling, steps in arrivals:
        answers.append(bench.add(prompt, **sampling))
        for _ in range(steps):
            bench.scheduler.step()
    bench.run()
    assert [answer.tokens for answer in answers] == [alone(prompt, **sampling) for prompt, sampling, _ in arrivals]
    assert set(bench.sequences.passes) <= {width}
    assert all(computed)


def test_streams_of_fixed_width_share_a_pass() -> None:
    """Four streams, one pass a step; none where the width is not proved for several."""
    for together, shared in ((4, True), (1, False)):
        setup = Setup("exact", PassShape.fixed(4), control=FixedDepth(3), together=together, chunk=64)
        bench = Bench(plain(4), setup=setup)
        answers = [bench.add(prompt, max_tokens=8) for prompt in endless(4)]
        bench.run()
        assert all(answer.over for answer in answers)
        assert (bench.sequences.passes.count(4) >= 5) == shared


CELLS = st.sampled_from([(8, 64), (16, 64), (8, 256), (None, 256)])


@given(ARRIVALS, CELLS, st.sampled_from(["none", "right"]))
@settings(max_examples=60, deadline=None)
def test_cells_are_those_of_a_run_alone(arrivals: Any, cells: tuple[int | None, int], kind: str) -> None:
    """Where cells depend on the passes that computed them: whole chunks are shared, and the rest is decoded anew."""
    group, chunk = cells

    def make() -> WidthContext:
        return WidthContext(LOGITS, N_VOCAB, group=group)

    setup = Setup("exact", PassShape(3), control=FixedDepth(2), together=3, chunk=chunk)
    bench, answers = Bench([make() for _ in range(3)], kind=kind, exact=3, setup=setup), []
    for prompt, sampling, steps in arrivals:
        answers.append(bench.add(prompt, **sampling))
        for _ in range(steps):
            bench.scheduler.step()
    bench.run()
    expected = [alone(prompt, make, chunk=chunk, **sampling) for prompt, sampling, _ in arrivals]
    assert [answer.tokens for answer in answers] == expected


# Prefixes.


@given(st.lists(PROMPTS, min_size=2, max_size=6), st.integers(2, 3))
@settings(max_examples=60, deadline=None)
def test_never_another_conversation_s_text(prompts: list[list[int]], slots: int) -> None:
    """Whatever prompts share, each row is computed from the tokens of its own prompt and answer."""
    seen: list[tuple[int, ...]] = []

    def logits(tokens: tuple[int, ...]) -> Any:
        seen.append(tokens)
        return LOGITS(tokens)

    bench = Bench([ScriptedContext(logits, N_VOCAB) for _ in range(slots)])
    answers = [bench.add(prompt) for prompt in prompts]
    bench.run()
    texts = [(*prompt, *answer.tokens) for prompt, answer in zip(prompts, answers, strict=True)]
    assert all(any(tokens == text[: len(tokens)] for text in texts) for tokens in seen)


def test_a_prompt_that_many_share_is_prefilled_once() -> None:
    """Also when all of them come at the same time."""
    contexts = plain(4)
    bench = Bench(contexts)
    answers = [bench.add([*SHARED, i]) for i in range(4)]
    bench.run()
    cached = [answer.done.stats.cached_tokens for answer in answers]
    assert cached == [0, len(SHARED), len(SHARED), len(SHARED)]
    assert sum(sum(context.decoded) for context in contexts) < len(SHARED) + 4 * 24


@pytest.mark.parametrize("chunk", [1, 64])
def test_a_short_prompt_waits_for_the_part_that_a_long_one_has_too(chunk: int) -> None:
    """And begins when that is there, before the rest of the long one; also where only whole chunks are shared."""
    contexts = plain(2)
    bench = Bench(contexts, chunk=chunk, width=64)
    long, short = bench.add([*SHARED, *[9] * 2000]), bench.add([*SHARED, 8])
    while not short.over:
        bench.scheduler.step()
    assert not long.chunks
    bench.run()
    assert short.done.stats.cached_tokens == len(SHARED)
    assert sum(sum(context.decoded) for context in contexts) < len(SHARED) + 2000 + 40


def test_a_conversation_goes_on_in_its_slot() -> None:
    """While others go on in theirs, and new ones take those that were used least recently."""
    bench, texts = Bench(plain(3)), [[i, *SHARED[: 70 + i]] for i in range(3)]
    for _ in range(3):
        answers = [bench.add(text) for text in texts]
        bench.run()
        cached = [answer.done.stats.cached_tokens for answer in answers]
        texts = [[*text, *answer.tokens, 9, 9, 9] for text, answer in zip(texts, answers, strict=True)]
    assert all(n >= len(text) - 20 for n, text in zip(cached, texts, strict=True))
    bench.add([60, 61, 62])
    bench.run()
    again = bench.add(texts[2])
    bench.run()
    assert again.done.stats.cached_tokens >= len(texts[2]) - 20


# Order and time.


def test_a_stream_waits_at_most_one_chunk() -> None:
    """Prefills of others are cut, and between two steps of a stream there is one of their passes."""
    contexts = plain(3)
    bench = Bench(contexts, width=256)
    stream = bench.add([1, 2, 3], max_tokens=60)
    for _ in range(3):
        bench.scheduler.step()
    for i in range(2):
        bench.add([i + 10] * 1000)
    while not stream.over:
        count, before = len(stream.chunks), [len(context.decoded) for context in contexts]
        bench.scheduler.step()
        passes = [context.decoded[n:] for context, n in zip(contexts[1:], before[1:], strict=True)]
        assert len(stream.chunks) == count + 1
        assert sum(n for found in passes for n in found if n > 1) <= CHUNK


def test_who_comes_first_begins_first() -> None:
    bench, order = Bench(plain(2)), list[int]()
    answers = [bench.add([i], max_tokens=5) for i in range(6)]
    while bench.scheduler.busy:
        bench.scheduler.step()
        order += [i for i, answer in enumerate(answers) if answer.chunks and i not in order]
    assert order == list(range(6))


def test_a_short_prompt_does_not_wait_for_a_long_one() -> None:
    """Nor a long one for many short ones."""
    bench = Bench(plain(3), width=64, chunk=64)
    long = bench.add([9] * 2000)
    bench.scheduler.step()
    short, steps = bench.add([1, 2, 3]), 0
    while not short.chunks:
        bench.scheduler.step()
        steps += 1
    assert steps <= 3
    while not long.chunks:
        if not any(job for job in bench.scheduler._waiting):
            bench.add([steps % 60] * 60, max_tokens=1)
        bench.scheduler.step()
        steps += 1
    assert steps <= 3 * 2000 // 64


def test_passes_are_fused_where_that_pays() -> None:
    """Four streams, one pass a step."""
    bench = Bench(plain(4))
    answers = [bench.add([i], max_tokens=12) for i in range(4)]
    bench.run()
    assert all(answer.over for answer in answers)
    assert bench.sequences.passes.count(4) >= 8


class Recording(FixedDepth):
    """A control that notes the budgets of its decisions and lessons."""

    def __init__(self) -> None:
        super().__init__(3)
        self.drafted: list[Budget] = []
        self.learned: list[Budget] = []

    def draft(self, prefix: Prefix, drafters: Sequence[Drafter], budget: Budget) -> Draft:
        self.drafted.append(budget)
        return super().draft(prefix, drafters, budget)

    def learn(self, draft: Draft, accepted: int, budget: Budget, target_s: float, confidence: Any = None) -> None:
        self.learned.append(budget)


def test_the_control_is_told_of_the_others() -> None:
    """What their rows are expected to be before a pass, and what they were after it; of nobody where it is alone."""
    control = Recording()
    bench = Bench(plain(3), kind="right", setup=Setup("exact", control=control, together=64))
    bench.add(endless(1)[0])
    bench.run()
    assert {budget.others for budget in (*control.drafted, *control.learned)} == {0}
    assert all(budget.seconds is None for budget in control.drafted)
    control.drafted.clear()
    control.learned.clear()
    for prompt in endless(3):
        bench.add(prompt, max_tokens=10)
    bench.run()
    with_others = [budget for budget in control.drafted if budget.others]
    assert with_others
    assert all(budget.seconds is not None and budget.seconds(9) > budget.seconds(1) for budget in with_others)
    fused = [rows for rows in bench.sequences.passes if rows > 1]
    assert {budget.others for budget in control.learned if budget.others} <= {n - m for n in fused for m in range(1, n)}
    assert any(budget.others for budget in control.learned)


# Ends.


@given(
    ARRIVALS, st.lists(st.tuples(st.integers(0, 6), st.integers(0, 12)), max_size=5), st.sampled_from(["none", "right"])
)
@settings(max_examples=60, deadline=None)
def test_cancelled_jobs_leave_at_once_and_harm_nobody(arrivals: Any, cancels: Any, kind: str) -> None:
    bench = Bench(plain(2), kind=kind)
    events = [threading.Event() for _ in arrivals]
    answers = [
        bench.add(prompt, cancel=event, **sampling)
        for (prompt, sampling, _), event in zip(arrivals, events, strict=True)
    ]
    at = {step: number % len(events) for number, step in cancels}
    for step in range(400):
        if step in at:
            events[at[step]].set()
        passes = len(bench.sequences.passes)
        bench.scheduler.step()
        assert len(bench.sequences.passes) <= passes + 1
        assert all(answer.over for answer, event in zip(answers, events, strict=True) if event.is_set())
        if not bench.scheduler.busy:
            break
    for answer, (prompt, sampling, _) in zip(answers, arrivals, strict=True):
        right = alone(prompt, **sampling)
        assert answer.tokens == right[: len(answer.tokens)]
        assert answer.done.finish_reason == "cancelled" or answer.tokens == right
    assert all(slot.job is slot.coroutine is slot.item is None for slot in bench.scheduler.slots)


def test_a_stop_ends_what_was_begun_before_it() -> None:
    bench = Bench(plain(2))
    before = [bench.add(prompt) for prompt in endless(4)]
    for _ in range(4):
        bench.scheduler.step()
    bench.stops.count += 1
    after = bench.add([9])
    bench.run()
    assert [answer.done.finish_reason for answer in before] == ["cancelled"] * 4
    assert after.tokens == alone([9])


def test_an_error_is_told_to_those_it_concerns() -> None:
    """A drafter that fails ends its own answer, and the slot serves the next one."""
    bench = Bench(plain(2))
    other = bench.add([5])
    failing = bench.add([1, 2], progress=lambda done, total: 1 // 0)
    bench.run()
    assert isinstance(failing.error, ZeroDivisionError)
    assert other.tokens == alone([5])
    again = bench.add([1, 2])
    bench.run()
    assert again.tokens == alone([1, 2])


def test_a_pass_that_fails_ends_the_answers_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(plain(2))
    answers = [bench.add(prompt) for prompt in endless(2)]
    for _ in range(6):
        bench.scheduler.step()
    error = BackendError("no memory.")

    def fail(*args: Any) -> Any:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(bench.sequences, "decode", fail)
        bench.scheduler.step()
    assert [answer.error for answer in answers] == [error, error]
    again = bench.add([1])
    bench.run()
    assert again.tokens == alone([1])


# Kept caches.


def test_a_conversation_whose_slot_went_to_others_goes_on() -> None:
    """Its cache was kept; without room for it the prompt is decoded anew, and the tokens are the same."""
    prompts = [[i, *SHARED[: 100 + i]] for i in range(6)]
    for most, known in ((0, False), (1 << 20, True)):
        bench = Bench(plain(2), kept=most)
        first = bench.add(prompts[0])
        bench.run()
        for prompt in prompts[1:]:
            bench.add(prompt)
        bench.run()
        again = bench.add([*prompts[0], *first.tokens, 9])
        bench.run()
        assert again.tokens == alone([*prompts[0], *first.tokens, 9])
        assert (again.done.stats.cached_tokens >= len(prompts[0])) == known


@given(
    st.lists(st.tuples(PROMPTS, st.integers(0, 3)), min_size=2, max_size=8), st.sampled_from([0, 2000, 1 << 20]), CELLS
)
@settings(max_examples=60, deadline=None)
def test_kept_caches_change_no_answer(prompts: Any, most: int, cells: tuple[int | None, int]) -> None:
    """Whatever is kept and thrown away, also where cells depend on their passes."""
    group, chunk = cells

    def make() -> WidthContext:
        return WidthContext(LOGITS, N_VOCAB, group=group)

    setup = Setup("exact", PassShape(3), control=FixedDepth(2), together=3, chunk=chunk)
    bench = Bench([make() for _ in range(2)], exact=3, setup=setup, kept=most)
    texts = [prompt for prompt, _ in prompts]
    for _ in range(2):
        answers = []
        for text in texts:
            answers.append(bench.add(text))
            bench.run()
        assert [answer.tokens for answer in answers] == [alone(text, make, chunk=chunk) for text in texts]
        texts = [[*text, *answer.tokens, n] for text, answer, (_, n) in zip(texts, answers, prompts, strict=True)]
        assert sum(len(kept.state) for kept in bench.scheduler.kept._kept) <= most


def test_a_kept_cache_that_cannot_be_rewound_is_used_whole() -> None:
    """Such as one without the cells before a sliding window."""

    class Window(ScriptedContext):
        restored = False

        def restore(self, state: bytes, tokens: Sequence[int]) -> None:
            super().restore(state, tokens)
            self.restored = True

        def rewind(self, length: int) -> None:
            super().rewind(0 if self.restored and length < len(self.tokens) else length)
            self.restored = False

    bench = Bench([Window(LOGITS, N_VOCAB) for _ in range(2)], kept=1 << 20)
    first = bench.add(SHARED)
    bench.run()
    for i in range(4):
        bench.add([60 - i, *SHARED])
    bench.run()
    for prompt in ([*SHARED[:-10], 1, 2], [*SHARED, *first.tokens, 9]):
        answer = bench.add(prompt)
        bench.run()
        assert answer.tokens == alone(prompt)
