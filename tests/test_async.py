"""Laws of the async verbs: they say what the others say, block no event loop, and end with their task."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from contextlib import aclosing, suppress
from typing import Any

import pytest

from localspec.engine import Engine
from localspec.errors import BackendError, UsageError
from localspec.generation.result import Completion
from tests.helpers.callers import LONG, PROMPT, SHORT, Caller, Gate, engine_of, queued, until
from tests.helpers.support import load_fixed


@pytest.fixture
def engine() -> Iterator[Engine]:
    with engine_of() as made:
        yield made


@pytest.fixture(scope="module")
def expected() -> tuple[int, ...]:
    with engine_of() as fresh:
        return fresh.generate(PROMPT, **SHORT).tokens


def test_async_verbs_say_what_the_others_say(engine: Engine) -> None:
    """Texts, chats and streams."""
    question = [{"role": "user", "content": "Hi"}]

    async def everything() -> list[Any]:
        done = await engine.agenerate(PROMPT, **SHORT)
        chat = await engine.achat(question, **SHORT)
        chunks = [chunk async for chunk in engine.astream(PROMPT, **SHORT)]
        chats = [chunk async for chunk in engine.astream_chat(question, **SHORT)]
        return [done, chat, chunks, chats]

    done, chat, chunks, chats = asyncio.run(everything())
    assert done.tokens == engine.generate(PROMPT, **SHORT).tokens == chunks[-1].completion.tokens
    assert chat.text == engine.chat(question, **SHORT).text == "".join(chunk.text for chunk in chats)
    assert tuple(token for chunk in chunks for token in chunk.tokens) == done.tokens


def test_the_event_loop_goes_on() -> None:
    """While a generation waits or runs."""
    gate = Gate()

    async def run(engine: Engine) -> Completion:
        task = asyncio.create_task(engine.agenerate(PROMPT, **SHORT))
        while not gate.reached.is_set():
            await asyncio.sleep(0.001)
        assert not task.done()
        gate.open()
        return await task

    with engine_of(gate) as engine:
        assert asyncio.run(run(engine)).finish_reason == "length"


@pytest.mark.parametrize("verb", ["agenerate", "astream"])
def test_a_cancelled_task_ends_its_generation(verb: str, expected: tuple[int, ...]) -> None:
    """Between two passes; the next call, of any kind, has the right tokens."""
    gate = Gate(len(PROMPT) + 3)

    async def consume(engine: Engine) -> None:
        if verb == "agenerate":
            await engine.agenerate(PROMPT, **LONG)
        async for _ in engine.astream(PROMPT, **LONG):
            pass

    async def run(engine: Engine) -> Completion:
        task = asyncio.create_task(consume(engine))
        while not gate.reached.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.open()
        return await engine.agenerate(PROMPT, **SHORT)

    with engine_of(gate) as engine:
        assert asyncio.run(run(engine)).tokens == expected
        assert engine._pair.target.decoded[1:] == [1] * (len(engine._pair.target.decoded) - 1)  # type: ignore[attr-defined]
        assert len(engine._pair.target.decoded) < 30  # type: ignore[attr-defined]
        assert engine.generate(PROMPT, **SHORT).tokens == expected


def test_an_async_stream_that_is_left_ends(engine: Engine, expected: tuple[int, ...]) -> None:
    """When it is closed, or its task ends."""

    async def run() -> Completion:
        async with aclosing(engine.astream("Other", **LONG)) as chunks:
            async for _ in chunks:
                break
        async for _ in engine.astream("Other", **LONG):
            break
        return await engine.agenerate(PROMPT, **SHORT)

    assert asyncio.run(run()).tokens == expected
    assert engine.generate(PROMPT, **SHORT).tokens == expected


def test_async_and_other_callers_wait_in_one_queue(engine: Engine) -> None:
    """In the order of the calls."""
    order: list[str] = []

    async def ask(name: str) -> None:
        await engine.agenerate(PROMPT, progress=lambda done, _: order.append(name), **SHORT)

    async def run() -> None:
        holder = engine.stream(PROMPT, **LONG)
        next(holder)
        tasks = []
        callers = []
        for number in range(3):
            tasks.append(asyncio.create_task(ask(f"async {number}")))
            while len(engine._lock._uses()) < 2 * number + 2:
                await asyncio.sleep(0)
            name = f"thread {number}"
            callers.append(
                Caller(lambda name=name: engine.generate(PROMPT, progress=lambda *_: order.append(name), **SHORT))  # type: ignore[misc]
            )
            queued(engine, 2 * number + 3)
        holder.close()
        await asyncio.gather(*tasks)
        for caller in callers:
            caller.result()

    asyncio.run(run())
    assert list(dict.fromkeys(order)) == [f"{kind} {number}" for number in range(3) for kind in ("async", "thread")]


def test_stop_and_cancel_give_up_async_calls_that_wait(engine: Engine, expected: tuple[int, ...]) -> None:
    """Also those that the thread has not begun."""

    async def run() -> list[Completion]:
        holder = engine.stream(PROMPT, **LONG)
        next(holder)
        event = threading.Event()
        tasks = [asyncio.create_task(engine.agenerate(PROMPT, cancel=event, **SHORT)) for _ in range(3)]
        while len(engine._lock._uses()) < 4:
            await asyncio.sleep(0)
        event.set()
        found = await asyncio.gather(*tasks)
        tasks = [asyncio.create_task(engine.agenerate(PROMPT, **SHORT)) for _ in range(3)]
        while len(engine._lock._uses()) < 4:
            await asyncio.sleep(0)
        tasks[2].cancel()
        engine.stop()
        found += await asyncio.gather(*tasks[:2])
        return found

    found = asyncio.run(run())
    assert [(done.finish_reason, done.tokens) for done in found] == [("cancelled", ())] * 5
    assert engine.generate(PROMPT, **SHORT).tokens == expected


def test_errors_of_async_calls_are_raised_where_they_are_awaited(engine: Engine) -> None:
    """Wrong options, and a closed engine."""

    async def run() -> None:
        with pytest.raises(UsageError, match="temperature"):
            await engine.agenerate(PROMPT, temperature=-1)
        with pytest.raises(UsageError, match="temperature"):
            async for _ in engine.astream(PROMPT, temperature=-1):
                pass
        assert (await engine.agenerate(PROMPT, **SHORT)).tokens
        engine.close()
        with pytest.raises(BackendError, match="closed"):
            await engine.agenerate(PROMPT)

    asyncio.run(run())


def test_an_engine_that_was_used_asynchronously_is_collected() -> None:
    """Its thread keeps nothing of it, and ends."""
    engine = engine_of()
    target: Any = engine._pair.target
    asyncio.run(engine.agenerate(PROMPT, **SHORT))
    before = threading.active_count()
    del engine
    gc.collect()
    assert target.closed
    until(lambda: threading.active_count() < before)


def test_the_built_in_pair_is_cancelled_again_and_again() -> None:
    """At any moment, from asyncio, with other calls between."""
    with load_fixed("tiny", "auto", ctx_size=256, exactness="off") as engine:
        alone = engine.generate(PROMPT, **SHORT).tokens

        async def run() -> None:
            for number in range(30):
                task = asyncio.create_task(engine.agenerate("The little dog", temperature=0, max_tokens=200))
                await asyncio.sleep(0.002 * (number % 10))
                task.cancel()
                with suppress(asyncio.CancelledError):  # it may have ended
                    await task
                assert (await engine.agenerate(PROMPT, **SHORT)).tokens == alone
                assert engine.generate(PROMPT, **SHORT).tokens == alone

        asyncio.run(run())
