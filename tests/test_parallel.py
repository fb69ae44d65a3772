"""Laws of an engine that answers several calls at the same time."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import weakref
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

import localspec
from localspec.draft.ngram import NgramDrafter
from localspec.engine import Engine
from localspec.errors import BackendError, InputError, UsageError
from localspec.generation.kept import KeptCaches
from localspec.gguf.header import read_header
from localspec.memory.fit import LoadRequest, Machine, choose_settings, kept_bytes
from localspec.models.resolve import TINY_TARGET
from localspec.params import ContextParams
from localspec.probe.gaps import Gaps
from localspec.testing import ScriptedVocabulary, scripted_engine
from tests.helpers.callers import LOGITS, LONG, PROMPT, SHORT, Caller, Gate, N, until
from tests.helpers.support import load_fixed

SYSTEM = {"role": "system", "content": "Answer in one sentence. " * 8}


def engine_of(logits: Any = LOGITS, parallel: int = 3, drafters: Any = (), **options: Any) -> Engine:
    return scripted_engine(logits, drafters, vocabulary=ScriptedVocabulary(N), parallel=parallel, **options)


def alone(prompt: str, **options: Any) -> tuple[int, ...]:
    with engine_of(parallel=1) as engine:
        return engine.generate(prompt, **options).tokens


def scheduler_of(engine: Engine) -> Any:
    return engine._runner.scheduler  # type: ignore[union-attr]


def running(engine: Engine) -> int:
    return sum(slot.job is not None for slot in scheduler_of(engine).slots)


@pytest.mark.parametrize("kind", ["plain", "ngram", "built-in"])
def test_eight_threads_at_the_same_time(kind: str) -> None:
    """With cancels, stops, abandoned streams, other verbs and a close: who ends normally has the tokens of a run
    alone."""
    dice = random.Random(kind)
    prompts = ["Once upon a time", "Once upon us", "The little dog", "x"]
    samplings: list[dict[str, Any]] = [{"temperature": 0}, {"temperature": 0.9, "seed": 5}]
    requests = [(prompt, {**sampling, "max_tokens": 6}) for prompt in prompts for sampling in samplings]

    def made(parallel: int) -> Engine:
        if kind == "built-in":
            return load_fixed("tiny", "auto", ctx_size=256, parallel=parallel)
        return engine_of(parallel=parallel, drafters=[NgramDrafter(min_match=1)] if kind == "ngram" else [], exact=5)

    with made(1) as fresh:
        expected = [fresh.generate(prompt, **option).tokens for prompt, option in requests]
    engine, counts = made(3), {"normal": 0, "cancelled": 0, "ended": 0, "closed": 0, "other": 0}

    def call(dice: random.Random) -> None:
        number = dice.randrange(len(requests))
        prompt, option = requests[number]
        kind = dice.choice(["generate", "generate", "cancel", "stream", "abandon", "other", "stop"])
        cancel = threading.Event()
        if kind == "cancel":
            threading.Timer(dice.random() * 0.05, cancel.set).start()
        if kind == "stop" and dice.random() < 0.3:
            engine.stop()
        if kind == "other":
            assert engine.detokenize(engine.tokenize(prompt)) == prompt
            dice.choice([engine.forget, lambda: engine.prompt_tokens([{"role": "user", "content": prompt}])])()
            return
        tokens: list[int] = []
        for chunk in engine.stream(prompt, cancel=cancel, **option):
            tokens += chunk.tokens
            if kind == "abandon" and dice.random() < 0.5:
                counts["ended"] += 1
                return
            done = chunk.completion
        assert done is not None
        counts["cancelled" if done.finish_reason == "cancelled" else "normal"] += 1
        assert tuple(tokens) == done.tokens == expected[number][: len(tokens)]
        assert done.finish_reason == "cancelled" or done.tokens == expected[number]

    def work(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(60):
            try:
                call(dice)
            except BackendError as error:
                counts["closed" if "closed" in str(error) else "other"] += 1

    callers = [Caller(lambda seed=seed: work(seed)) for seed in range(8)]  # type: ignore[misc]
    until(lambda: sum(counts.values()) > dice.randrange(200, 300))
    engine.close()
    for caller in callers:
        caller.result()
    assert counts["normal"] > 60
    assert counts["closed"] > 0
    assert counts["other"] == 0


def test_streams_of_one_thread_run_side_by_side() -> None:
    """None ends another, and closing one ends its generation."""
    with engine_of() as engine:
        streams = [engine.stream(prompt, **LONG) for prompt in ("abc", "abd")]
        for stream in streams:
            next(stream)
        assert engine.generate(PROMPT, **SHORT).tokens == alone(PROMPT, **SHORT)
        streams[0].close()
        until(lambda: running(engine) <= 1)
        del streams
        gc.collect()
        until(lambda: running(engine) == 0)


def test_more_calls_than_slots_wait() -> None:
    with engine_of(parallel=2) as engine:
        callers = [Caller(lambda i=i: engine.generate(f"{i} {PROMPT}", **SHORT).tokens) for i in range(9)]  # type: ignore[misc]
        assert [caller.result() for caller in callers] == [alone(f"{i} {PROMPT}", **SHORT) for i in range(9)]


def test_async_verbs_run_side_by_side() -> None:
    """A task that is cancelled ends its generation, and an error of a request is raised where it was made."""

    async def everything(engine: Engine) -> Any:
        done = await asyncio.gather(*(engine.agenerate(prompt, **SHORT) for prompt in ("abc", "abd", "xyz", "zyx")))
        chats = [[chunk async for chunk in engine.astream_chat([SYSTEM], **SHORT)]]
        task = asyncio.create_task(engine.agenerate(PROMPT, **LONG))
        while not running(engine):
            await asyncio.sleep(0.001)
        task.cancel()
        while running(engine):
            await asyncio.sleep(0.001)
        async with aclosing(engine.astream(PROMPT, **LONG)) as stream:
            await anext(stream)
        while running(engine):
            await asyncio.sleep(0.001)
        with pytest.raises(UsageError, match="temperature"):
            await engine.agenerate(PROMPT, temperature=-1)
        return done, chats

    with engine_of() as engine:
        done, chats = asyncio.run(everything(engine))
        assert [found.tokens for found in done] == [alone(text, **SHORT) for text in ("abc", "abd", "xyz", "zyx")]
        assert chats[0][-1].completion.tokens == engine.chat([SYSTEM], **SHORT).tokens


def test_a_prompt_depends_on_its_messages_alone() -> None:
    """A reply in it is text, whoever generated it: what others said changes no token."""
    question = [SYSTEM, {"role": "user", "content": "Hi"}]
    with engine_of() as engine:
        turn = [*question, engine.chat(question, **SHORT).message, {"role": "user", "content": "Go on"}]
        found = engine.chat(turn, **SHORT)
    with engine_of(parallel=1) as fresh:
        assert found.tokens == fresh.chat(turn, **SHORT).tokens
    assert found.stats.cached_tokens > 0


def test_other_verbs_wait_for_what_runs_and_begin_before_what_waits() -> None:
    gate = Gate(free=30)
    with engine_of(gate, parallel=2) as engine:
        first = [Caller(lambda: engine.generate(PROMPT, **SHORT)) for _ in range(2)]
        assert gate.reached.wait(60)
        other = Caller(engine.forget)
        until(engine._lock.contended)
        late = Caller(lambda: engine.generate("late", **SHORT))
        gate.open()
        for caller in (*first, other, late):
            caller.result()
        assert late.result().tokens == alone("late", **SHORT)
        assert all(
            not slot.tokens or slot.tokens[:4] == [ord(char) for char in "late"] for slot in scheduler_of(engine).slots
        )


def test_stop_ends_what_runs_and_what_waits_and_no_later_call() -> None:
    with engine_of(parallel=2) as engine:
        callers = [Caller(lambda: engine.generate(PROMPT, **LONG)) for _ in range(4)]
        until(lambda: running(engine) == 2)
        until(lambda: len(scheduler_of(engine)._waiting) == 2)
        engine.stop()
        assert {caller.result().finish_reason for caller in callers} == {"cancelled"}
        assert engine.generate(PROMPT, **SHORT).tokens == alone(PROMPT, **SHORT)


def test_a_callback_cannot_generate_but_can_stop_and_close() -> None:
    with engine_of() as engine:

        def generate(done: int, total: int) -> None:
            engine.generate(PROMPT, **SHORT)

        for verb in (generate, lambda done, total: engine.forget()):
            with pytest.raises(BackendError, match="callback"):
                engine.generate(PROMPT, progress=verb, **SHORT)
        stopped = engine.generate(PROMPT, progress=lambda done, total: engine.stop(), **LONG)
        assert stopped.finish_reason == "cancelled"
        closed = engine.generate(PROMPT, progress=lambda done, total: engine.close(), **LONG)
        assert closed.finish_reason == "cancelled"
        with pytest.raises(BackendError, match="closed"):
            engine.generate(PROMPT, **SHORT)


def test_close_ends_everything_and_frees_every_slot() -> None:
    """Also the engine's thread; calls that wait raise."""
    engine = engine_of(parallel=2)
    callers = [Caller(lambda: engine.generate(PROMPT, **LONG)) for _ in range(4)]
    until(lambda: len(scheduler_of(engine)._waiting) == 2)
    targets, thread = [slot.pair.target for slot in scheduler_of(engine).slots], engine._runner._thread  # type: ignore[union-attr]
    engine.close()
    assert all(target.closed for target in targets)
    ends = []
    for caller in callers:
        try:
            ends.append(caller.result().finish_reason)
        except BackendError:
            ends.append("raised")
    assert sorted(ends) == ["cancelled", "cancelled", "raised", "raised"]
    assert thread is not None
    thread.join(60)
    assert not thread.is_alive()


def test_an_engine_that_nobody_has_is_closed_and_collected() -> None:
    engine = engine_of()
    engine.generate(PROMPT, **SHORT)
    targets, gone = [slot.pair.target for slot in scheduler_of(engine).slots], weakref.ref(engine)
    del engine
    gc.collect()
    assert gone() is None
    assert all(target.closed for target in targets)


def test_states_are_of_one_conversation(tmp_path: Path) -> None:
    with engine_of() as engine:
        engine.generate(PROMPT, **SHORT)
        for verb in (engine.save_state, engine.load_state):
            with pytest.raises(UsageError, match="parallel=1"):
                verb(tmp_path / "state")


@pytest.mark.parametrize("parallel", [0, -1, 65, "two"])
def test_parallel_has_a_range(parallel: Any) -> None:
    with pytest.raises((UsageError, InputError), match="parallel"):
        localspec.load("tiny", "none", parallel=parallel)


def test_a_pair_is_measured_while_nobody_stops_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two steps there is a gap now and then, and answers that come later follow what was found."""
    monkeypatch.setattr("localspec.generation.parallel._NO_GAP_S", 0.0)
    passes, whole = [0], threading.Event()

    def measure(gate: Any, publish: Any) -> None:
        for _ in range(5):
            with gate.one_pass():
                passes[0] += 1
        whole.set()

    with engine_of() as engine:
        gaps = Gaps[Any](measure)
        engine._measurement = engine._runner._measurement = gaps  # type: ignore[assignment]
        stream = engine.stream(PROMPT, **LONG)
        tokens: list[int] = []
        while not whole.is_set():
            tokens += next(stream).tokens
        assert running(engine) == 1
        stream.close()
        gaps.close()
    assert tuple(tokens) == alone(PROMPT, **LONG)[: len(tokens)]


def test_forget_forgets_kept_caches() -> None:
    with engine_of(parallel=2) as engine:
        kept = scheduler_of(engine).kept = KeptCaches(1 << 20)
        for i in range(5):
            engine.generate(f"{i}" + PROMPT * 20, **SHORT)
        assert kept._kept
        engine.forget()
        assert not kept._kept
        assert engine.generate("0" + PROMPT * 20, **SHORT).stats.cached_tokens == 0


@pytest.mark.parametrize("cache_ram", [-1, 0.5, True, "all"])
def test_cache_ram_has_a_range(cache_ram: Any) -> None:
    with pytest.raises(UsageError, match="cache_ram"):
        localspec.load("tiny", "none", parallel=2, cache_ram=cache_ram)


def test_kept_caches_take_what_the_user_grants_or_an_eighth_of_what_is_free() -> None:
    """Nothing by itself for one conversation at a time."""
    several, machine = ContextParams(sequences=2), Machine(1 << 34, 1 << 31)
    assert kept_bytes(None, several, machine) == 1 << 28
    assert kept_bytes(None, several, Machine(1 << 40, 1 << 39)) == kept_bytes(None, several, Machine(None)) == 1 << 30
    assert kept_bytes(3, several, machine) == 3 << 20
    assert kept_bytes(None, ContextParams(), machine) == 0
    assert kept_bytes(3, ContextParams(), machine) == 3 << 20


def test_caches_of_several_conversations_are_counted() -> None:
    """Memory grows by a cache for each, and by nothing else."""
    request = LoadRequest.from_headers(read_header(TINY_TARGET), None, "none")
    sizes = [
        choose_settings(request, ContextParams(ctx_size=1024, sequences=n), Machine(1 << 34)).private for n in (1, 2, 5)
    ]
    assert sizes[2] - sizes[0] == 4 * (sizes[1] - sizes[0]) > 0


@pytest.mark.parametrize(
    ("draft", "settings"),
    [("none", {}), ("ngram", {}), ("auto", {}), (str(TINY_TARGET), {}), ("auto", {"pass_width": 4})],
)
def test_every_option_gives_what_it_gives_alone(draft: str, settings: dict[str, Any]) -> None:
    """With every kind of drafter, and in padded passes: samplings, grammars, log probabilities, stop strings, chats."""
    story = [{"role": "system", "content": "Tell a story."}, {"role": "user", "content": "Of a dog"}]
    requests: list[tuple[str, Any, dict[str, Any]]] = [
        ("generate", "Once upon a time", {"temperature": 0}),
        ("generate", "Once upon a time", {"temperature": 1.2, "seed": 3, "repeat_penalty": 1.1}),
        ("generate", "The little dog", {"temperature": 0, "logprobs": 2}),
        ("chat", story, {"temperature": 0.8, "seed": 1, "stop": ["the"]}),
        ("chat", story, {"temperature": 0, "response_format": {"type": "json_object"}}),
        ("chat", [*story, {"role": "user", "content": "Or a cat"}], {"temperature": 0.8, "seed": 2, "draft_max": 1}),
    ]

    def answer(engine: Engine, number: int) -> Any:
        verb, prompt, options = requests[number % len(requests)]
        return getattr(engine, verb)(prompt, max_tokens=40, **options)

    with load_fixed("tiny", draft, ctx_size=256, **settings) as engine:
        alone = [answer(engine, number) for number in range(len(requests))]
    with load_fixed("tiny", draft, ctx_size=256, parallel=3, **settings) as engine:
        numbers = [*range(len(requests))] * 2
        callers = [Caller(lambda number=number: answer(engine, number)) for number in numbers]  # type: ignore[misc]
        found = [caller.result() for caller in callers]
    for number, one in zip(numbers, found, strict=True):
        for field in ("text", "tokens", "finish_reason", "exactness", "logprobs", "notice"):
            assert getattr(one, field) == getattr(alone[number], field), (number, field)
