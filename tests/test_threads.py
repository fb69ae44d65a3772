"""Laws of one owner: callers wait in order, any thread ends a generation, and nothing runs beside something else."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localspec.draft.ngram import NgramDrafter
from localspec.engine import Engine
from localspec.errors import BackendError, UsageError
from localspec.generation import lock
from localspec.generation.lock import EngineLock
from localspec.generation.result import Completion
from tests.helpers.callers import LONG, PATIENCE, PROMPT, SHORT, Caller, Gate, engine_of, queued, until
from tests.helpers.support import load_fixed


@pytest.fixture
def engine() -> Iterator[Engine]:
    with engine_of() as made:
        yield made


@pytest.fixture(scope="module")
def expected() -> tuple[int, ...]:
    with engine_of() as fresh:
        return fresh.generate(PROMPT, **SHORT).tokens


# Threads.


@pytest.mark.parametrize("kind", ["plain", "ngram", "built-in"])
def test_eight_threads_a_hundred_calls_each(kind: str) -> None:
    """With cancels, stops, abandoned streams and a close at random moments: who ends normally has the right tokens."""
    dice = random.Random(kind)
    prompts = ["Once upon a time", "Once upon us", "The little dog", "x"]
    options: list[dict[str, Any]] = [{"temperature": 0}, {"temperature": 0.9, "seed": 5}]
    requests = [(prompt, {**option, "max_tokens": 6}) for prompt in prompts for option in options]

    def made() -> Engine:
        if kind == "built-in":
            return load_fixed("tiny", "auto", ctx_size=256, exactness="off")
        return engine_of(drafters=[NgramDrafter(min_match=1)] if kind == "ngram" else [])

    with made() as fresh:
        alone = [fresh.generate(prompt, **option).tokens for prompt, option in requests]
    engine, counts = made(), {"normal": 0, "cancelled": 0, "ended": 0, "closed": 0, "other": 0}

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
        chunks = engine.stream(prompt, cancel=cancel, **option)
        tokens: list[int] = []
        for chunk in chunks:
            tokens += chunk.tokens
            if kind == "abandon" and dice.random() < 0.5:
                counts["ended"] += 1
                return
            done = chunk.completion
        assert done is not None
        counts["cancelled" if done.finish_reason == "cancelled" else "normal"] += 1
        assert tuple(tokens) == done.tokens == alone[number][: len(tokens)]
        assert done.finish_reason == "cancelled" or done.tokens == alone[number]

    def work(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(100):
            try:
                call(dice)
            except BackendError as error:
                counts["closed" if "closed" in str(error) else "other"] += 1

    callers = [Caller(lambda seed=seed: work(seed)) for seed in range(8)]  # type: ignore[misc]
    until(lambda: sum(counts.values()) > dice.randrange(300, 500))
    engine.close()
    for caller in callers:
        caller.result()
    assert counts["normal"] > 100
    assert counts["closed"] > 0
    assert counts["other"] == 0


def test_callers_wait_in_order(engine: Engine) -> None:
    """Whoever came first goes first."""
    holder = engine.stream(PROMPT, **LONG)
    next(holder)
    order: list[int] = []
    callers = []
    for number in range(6):
        callers.append(Caller(lambda i=number: (engine.generate(PROMPT, **SHORT), order.append(i))))  # type: ignore[misc]
        queued(engine, number + 2)
    holder.close()
    for caller in callers:
        caller.result()
    assert order == list(range(6))


def test_a_waiting_call_is_woken(engine: Engine, expected: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not have to look for its turn."""
    monkeypatch.setattr(lock, "_POLL_S", 10 * PATIENCE)
    holder = engine.stream(PROMPT, **LONG)
    next(holder)
    waiting = Caller(lambda: engine.generate(PROMPT, **SHORT).tokens)
    queued(engine, 2)
    time.sleep(0.05)  # until it waits
    holder.close()
    assert waiting.result() == expected


@pytest.mark.parametrize("by", ["cancel", "stop"])
def test_a_waiting_call_can_be_given_up(engine: Engine, by: str, expected: tuple[int, ...]) -> None:
    """It comes back with no token; the others get theirs."""
    holder, cancel = engine.stream(PROMPT, **SHORT), threading.Event()
    tokens = [*next(holder).tokens]
    waiting = Caller(lambda: engine.generate("Other", cancel=cancel, **SHORT))
    queued(engine, 2)
    last = Caller(lambda: engine.generate(PROMPT, **SHORT)) if by == "cancel" else None
    cancel.set() if by == "cancel" else engine.stop()
    done: Completion = waiting.result()
    assert (done.finish_reason, done.tokens, done.text) == ("cancelled", (), "")
    tokens += [token for chunk in holder for token in chunk.tokens]
    if last is not None:
        assert tuple(tokens) == last.result().tokens == expected


@pytest.mark.parametrize("by", ["cancel", "stop"])
@pytest.mark.parametrize("after", [0, 1, 5, 8, len(PROMPT), len(PROMPT) + 1, len(PROMPT) + 7])
def test_a_generation_is_ended_between_passes(by: str, after: int) -> None:
    """In the prefill or after it, from another thread: with the tokens so far, and the next call has the right ones."""
    gate, cancel = Gate(after), threading.Event()
    with engine_of(gate, [NgramDrafter(min_match=1)]) as engine, engine_of() as fresh:
        alone = fresh.generate(PROMPT, temperature=0, max_tokens=40)
        running = Caller(lambda: engine.generate(PROMPT, cancel=cancel, **LONG))
        assert gate.reached.wait(PATIENCE)
        cancel.set() if by == "cancel" else engine.stop()
        gate.open()
        done: Completion = running.result()
        assert done.finish_reason == "cancelled"
        assert done.tokens == alone.tokens[: len(done.tokens)]
        assert 1 <= len(done.tokens) <= after + 1  # the pass that ran gave its token
        assert engine.generate(PROMPT, temperature=0, max_tokens=40).tokens == alone.tokens


def test_a_long_prefill_ends_between_its_passes(engine: Engine) -> None:
    """After the pass in which it was cancelled; a later call reuses what was read."""
    cancel = threading.Event()
    target: Any = engine._pair.target
    prompt = "x" * 2000
    done = engine.generate(prompt, cancel=cancel, progress=lambda read, _: cancel.set() if read >= 512 else None)
    assert (done.finish_reason, done.tokens, target.decoded) == ("cancelled", (), [512])
    assert engine.generate(prompt, **SHORT).stats.cached_tokens == 512


def test_a_call_that_is_cancelled_before_it_begins_decodes_nothing(engine: Engine) -> None:
    """In chats too, whose conversation stays."""
    cancel = threading.Event()
    cancel.set()
    question = [{"role": "user", "content": "Hi"}]
    reply = engine.chat(question, **SHORT)
    decoded = list(engine._pair.target.decoded)  # type: ignore[attr-defined]
    for done in (engine.generate(PROMPT, cancel=cancel), engine.chat(question, cancel=cancel)):
        assert (done.finish_reason, done.tokens) == ("cancelled", ())
    assert engine._pair.target.decoded == decoded  # type: ignore[attr-defined]
    following = [*question, reply.message, *question]
    assert engine.chat(following, **SHORT).stats.cached_tokens > len(decoded)


def test_stop_ends_no_later_call(engine: Engine, expected: tuple[int, ...]) -> None:
    """Only what runs or waits."""
    engine.stop()
    assert engine.generate(PROMPT, **SHORT).tokens == expected


def test_chunks_of_a_cancelled_stream_say_what_its_completion_says() -> None:
    """Also those of the step in which it was cancelled."""
    for taken in range(1, 8):
        cancel = threading.Event()
        with engine_of(drafters=[NgramDrafter(min_match=1)]) as engine:
            chunks = engine.stream(PROMPT, cancel=cancel, **LONG)
            seen = [next(chunks) for _ in range(taken)]
            cancel.set()
            seen += list(chunks)
        done = seen[-1].completion
        assert done is not None
        assert done.finish_reason == "cancelled"
        assert "".join(chunk.text for chunk in seen) == done.text
        assert tuple(token for chunk in seen for token in chunk.tokens) == done.tokens


@pytest.mark.parametrize("value", [True, 1, "yes", object()])
def test_cancel_is_an_event(engine: Engine, value: Any) -> None:
    """Anything else is wrong usage, when called."""
    with pytest.raises(UsageError, match=r"threading\.Event"):
        engine.stream(PROMPT, cancel=value)


# Streams.


def test_an_open_stream_keeps_its_place_until_it_is_closed(engine: Engine, expected: tuple[int, ...]) -> None:
    """Another thread waits meanwhile."""
    holder = engine.stream("Other", **LONG)
    next(holder)
    waiting = Caller(lambda: engine.generate(PROMPT, **SHORT).tokens)
    queued(engine, 2)
    next(holder)
    assert waiting.is_alive()
    holder.close()
    assert waiting.result() == expected


@pytest.mark.parametrize("where", ["here", "another thread", "in a cycle"])
def test_an_abandoned_stream_is_released_when_it_is_collected(
    engine: Engine, expected: tuple[int, ...], where: str
) -> None:
    """Wherever that is."""
    holder: list[Any] = [engine.stream("Other", **LONG)]
    next(holder[0])
    waiting = Caller(lambda: engine.generate(PROMPT, **SHORT).tokens)
    queued(engine, 2)
    if where == "in a cycle":
        holder.append(holder)
        del holder
        gc.collect()
    elif where == "here":
        holder.clear()
    else:
        Caller(holder.clear).result()
    assert waiting.result() == expected


def test_a_stream_that_was_not_begun_has_no_place(engine: Engine, expected: tuple[int, ...]) -> None:
    """It takes one with its first chunk."""
    later = engine.stream(PROMPT, **SHORT)
    assert Caller(lambda: engine.generate(PROMPT, **SHORT).tokens).result() == expected
    assert tuple(token for chunk in later for token in chunk.tokens) == expected


def test_a_stopped_stream_loses_its_place_at_once(engine: Engine, expected: tuple[int, ...]) -> None:
    """Its next chunk is its last, with what it had."""
    holder = engine.stream("Other", **LONG)
    tokens = next(holder).tokens
    waiting = Caller(lambda: engine.generate(PROMPT, **SHORT).tokens)
    queued(engine, 2)
    Caller(lambda: engine._lock.cancel(engine._lock._uses()[0])).result()
    assert waiting.result() == expected
    (last,) = holder
    assert last.completion is not None
    assert (last.completion.finish_reason, last.completion.tokens) == ("cancelled", tokens)


def test_a_stream_that_is_stopped_in_a_pass_keeps_no_place(expected: tuple[int, ...]) -> None:
    """Its reader has the chunk of that pass, and need not ask for the last one."""
    gate = Gate(len(PROMPT))
    with engine_of(gate) as engine:
        stream = engine.stream(PROMPT, **LONG)
        first = next(stream)
        reader = Caller(lambda: next(stream))
        assert gate.reached.wait(PATIENCE)
        engine.stop()
        gate.open()
        assert first.tokens + reader.result().tokens == expected[:2]
        assert Caller(lambda: engine.generate(PROMPT, **SHORT).tokens).result() == expected
        assert [chunk.completion.finish_reason for chunk in stream if chunk.completion] == ["cancelled"]


@pytest.mark.parametrize("verb", ["generate", "stream", "forget", "load_state"])
def test_a_call_ends_the_open_stream_of_its_thread(engine: Engine, verb: str, tmp_path: Path) -> None:
    """Which would wait for itself; the stream says so."""
    engine.generate(PROMPT, **SHORT)
    engine.save_state(tmp_path / "s")
    stream = engine.stream("Other", **LONG)
    next(stream)
    if verb == "stream":
        next(engine.stream(PROMPT, **SHORT))
    else:
        calls = {
            "generate": lambda: engine.generate(PROMPT, **SHORT),
            "forget": engine.forget,
            "load_state": lambda: engine.load_state(tmp_path / "s"),
        }
        calls[verb]()
    with pytest.raises(BackendError, match="another generation"):
        next(stream)


def test_a_state_is_saved_beside_an_open_stream(engine: Engine, expected: tuple[int, ...], tmp_path: Path) -> None:
    """Which goes on."""
    stream = engine.stream(PROMPT, **SHORT)
    tokens = [*next(stream).tokens]
    engine.save_state(tmp_path / "s")
    tokens += [token for chunk in stream for token in chunk.tokens]
    assert tuple(tokens) == expected


def test_a_stream_that_two_threads_advance_is_nobody_s(engine: Engine, expected: tuple[int, ...]) -> None:
    """Its first thread waits for it as others do."""
    stream = engine.stream(PROMPT, **SHORT)
    tokens = [*next(stream).tokens]
    tokens += Caller(lambda: next(stream)).result().tokens
    rest = threading.Timer(0.1, lambda: tokens.extend(token for chunk in stream for token in chunk.tokens))
    rest.start()
    assert engine.generate(PROMPT, **SHORT).tokens == expected
    rest.join()
    assert tuple(tokens) == expected


# Callbacks and closing.


def test_a_callback_cannot_generate_but_can_stop(engine: Engine, expected: tuple[int, ...]) -> None:
    """The call that it belongs to is in the middle of something."""
    errors: list[str] = []

    def callback(done: int, total: int) -> None:
        for verb in (lambda: engine.generate(PROMPT), engine.forget, lambda: engine.save_state("x")):
            with pytest.raises(BackendError) as found:
                verb()
            errors.append(str(found.value))
        assert engine.tokenize("a") == [97]

    assert engine.generate(PROMPT, progress=callback, **SHORT).tokens == expected
    assert set(errors) == {"a callback of a running call cannot use the engine; use it after that call."}
    assert engine.generate("x" * 600, progress=lambda *_: engine.stop()).finish_reason == "cancelled"


def test_a_callback_may_close(engine: Engine) -> None:
    """The call ends, and frees."""
    target: Any = engine._pair.target
    seen: list[bool] = []
    done = engine.generate("x" * 600, progress=lambda *_: (engine.close(), seen.append(target.closed)))
    assert done.finish_reason == "cancelled"
    assert (seen[0], target.closed) == (False, True)
    with pytest.raises(BackendError, match="closed"):
        engine.tokenize("a")


@pytest.mark.parametrize("after", [3, len(PROMPT) + 5])
def test_close_ends_what_runs_then_frees(after: int) -> None:
    """Who waits is refused; who runs has the tokens so far."""
    gate = Gate(after)
    engine = engine_of(gate)
    target: Any = engine._pair.target
    running = Caller(lambda: engine.generate(PROMPT, **LONG))
    assert gate.reached.wait(PATIENCE)
    waiting = Caller(lambda: engine.generate(PROMPT, **SHORT))
    queued(engine, 2)
    closing = Caller(engine.close)
    with pytest.raises(BackendError, match="closed"):
        waiting.result()
    assert not target.closed
    gate.open()
    assert running.result().finish_reason == "cancelled"
    closing.result()
    assert target.closed


def test_close_waits_for_no_suspended_stream_of_another_thread() -> None:
    """It ends; its next chunk is its last."""
    engine = engine_of()
    stream = engine.stream(PROMPT, **LONG)
    Caller(lambda: next(stream)).result()
    engine.close()
    assert engine._pair.target.closed  # type: ignore[attr-defined]
    assert [chunk.completion.finish_reason for chunk in stream if chunk.completion] == ["cancelled"]


def test_a_use_that_nothing_refers_to_is_no_longer_in_the_queue() -> None:
    """An interrupt came before it could leave."""
    found = EngineLock()
    first, second = found.enqueue(), found.enqueue()
    assert found.wait(first)
    del first
    assert found.wait(second)
    freed: list[bool] = []
    found.close(lambda: freed.append(True))
    assert not freed
    del second
    assert freed == [True]


def test_a_close_that_did_not_see_a_new_use_is_seen_by_it() -> None:
    """It looked at the queue just before."""
    freed: list[bool] = []
    found = EngineLock()
    use = found.enqueue()
    place = found._queue.pop()
    found.close(lambda: freed.append(True))
    found._queue.append(place)
    with pytest.raises(BackendError, match="closed"):
        found.wait(use)
    assert freed == [True]


def test_a_collected_engine_is_closed() -> None:
    """When nothing refers to it, a stream included."""
    engine = engine_of()
    target: Any = engine._pair.target
    stream = engine.stream(PROMPT, **LONG)
    next(stream)
    del engine
    assert next(stream).tokens
    del stream
    gc.collect()
    assert target.closed


def test_tuning_is_stopped(tmp_path: Path) -> None:
    """Between two passes; the costs stay."""
    with load_fixed("tiny", "ngram", ctx_size=256) as engine:
        control = engine.control
        with pytest.raises(BackendError, match="stopped"):
            engine.tune(lambda share: engine.stop())
        assert engine.control is control
        assert engine.generate(PROMPT, **SHORT).tokens


def ends_well(script: str) -> None:
    run = [sys.executable, "-c", script]
    done = subprocess.run(run, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, "")


AT_EXIT = """
import threading, time, localspec
llm = localspec.load("tiny", "auto", threads=1, exactness="off")
def work():
    try:
        while True:
            llm.generate("Once", max_tokens=2000)
    except localspec.BackendError as error:
        assert "closed" in str(error)
threading.Thread(target=work, daemon=True).start()
time.sleep(0.3)
"""


def test_exit_while_a_daemon_generates() -> None:
    """It is stopped before its model is freed."""
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX")
def test_a_forked_process_frees_nothing(engine: Engine) -> None:
    """The memory belongs to its parent."""
    if (child := os.fork()) == 0:
        engine.close()
        os._exit(engine._pair.target.closed)  # type: ignore[attr-defined]
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX")
def test_after_a_fork_every_verb_is_refused() -> None:
    """In the child, which frees nothing; the parent goes on."""
    script = """
import os, sys, localspec
llm = localspec.load("tiny", "auto", threads=1, exactness="off")
expected = llm.generate("Once", max_tokens=20, temperature=0).tokens
stream = llm.stream("Once", max_tokens=20, temperature=0)
tokens = [*next(stream).tokens]
if (child := os.fork()) == 0:
    message = [{"role": "user", "content": "Hi"}]
    verbs = [lambda: llm.generate("a"), lambda: next(llm.stream("a")), lambda: llm.chat(message), llm.forget,
             lambda: llm.tokenize("a"), lambda: llm.detokenize([1]), lambda: llm.prompt_tokens(message),
             lambda: llm.save_state("x"), llm.tune, lambda: next(stream)]
    for verb in verbs:
        try:
            verb()
        except localspec.BackendError as error:
            assert "fork" in str(error), error
        else:
            os._exit(3)
    llm.close()
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
tokens += [token for chunk in stream for token in chunk.tokens]
assert tuple(tokens) == expected
llm.close()
"""
    ends_well(script)
