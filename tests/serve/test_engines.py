"""Laws of engines on demand: one load each, the one that is idle longest makes room, idle ones are freed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from localspec.errors import ModelFileError
from localspec.serve.catalog import Catalog, Model, Need
from localspec.serve.engines import Engines
from localspec.serve.problem import RequestError

A, B, C = (Model(name, name) for name in "abc")


@dataclass
class Fake:
    """An engine that knows whether it was closed."""

    name: str
    closed: bool = False
    measured: list[float] = field(default_factory=list)

    def measure(self, seconds: float) -> bool:
        self.measured.append(seconds)
        return False

    def close(self) -> None:
        self.closed = True


@dataclass
class Machine:
    """Loads engines; ``room``: how many fit."""

    room: int = 9
    loads: list[str] = field(default_factory=list)
    made: list[Fake] = field(default_factory=list)

    def load(self, model: Model, progress: Callable[[float], None]) -> Any:
        self.loads.append(model.id)
        if model is C:
            raise ModelFileError("c is damaged.")
        progress(0.5)
        self.made.append(Fake(model.id))
        return self.made[-1]

    def need(self, model: Model) -> Need:
        return Need(1, sum(not one.closed for one in self.made) < self.room)

    def engines(self, keep_alive: float | None = None) -> Engines:
        return Engines(Catalog(A, lambda: [B, C]), self.load, self.need, keep_alive)


def silent(text: str) -> None:
    """Takes notes."""


def test_a_model_is_loaded_once() -> None:
    """Also when several ask for it while it loads."""

    async def run(machine: Machine) -> None:
        engines = machine.engines()
        await asyncio.gather(*(engines.get(A, silent) for _ in range(5)))
        assert machine.loads == ["a"]
        assert engines.loaded(A) is machine.made[0]
        engines.close()
        assert machine.made[0].closed

    asyncio.run(run(Machine()))


def test_a_new_pair_is_measured_while_nobody_asks() -> None:
    """From the start of a server on, and without waiting for it."""
    engine = Fake("a")
    Machine().engines().add(A, engine)  # type: ignore[arg-type]
    assert engine.measured == [0.0]


def test_the_one_idle_longest_makes_room() -> None:
    """And is loaded again when it is asked for."""

    async def run(machine: Machine) -> None:
        engines = machine.engines()
        for model in (A, B, A):
            await engines.get(model, silent)
        assert machine.loads == ["a", "b", "a"]
        assert [one.closed for one in machine.made] == [True, True, False]

    asyncio.run(run(Machine(room=1)))


def test_an_engine_in_use_is_not_freed() -> None:
    """A model that needs its room waits for the end of its answers, and requests that come later wait for the model."""

    async def run(machine: Machine) -> None:
        engines, notes, order = machine.engines(), list[str](), list[str]()

        async def ask(model: Model) -> None:
            async with engines.use(model, notes.append) as engine:
                order.append(engine.name)  # type: ignore[attr-defined]

        async with engines.use(A, silent), engines.use(A, silent):
            other = asyncio.create_task(ask(B))
            while "waiting for a to end" not in notes:
                await asyncio.sleep(0.001)
            late = asyncio.create_task(ask(A))
            await asyncio.sleep(0.01)
            assert not machine.made[0].closed
            assert order == []
        await asyncio.gather(other, late)
        assert order == ["b", "a"]
        assert machine.loads == ["a", "b", "a"]

    asyncio.run(run(Machine(room=1)))


def test_a_load_that_fails_harms_no_other() -> None:
    """It is tried again by the next request."""

    async def run(machine: Machine) -> None:
        engines = machine.engines()
        await engines.get(A, silent)
        for _ in range(2):
            with pytest.raises(ModelFileError):
                await engines.get(C, silent)
        assert machine.loads == ["a", "c", "c"]
        assert not machine.made[0].closed

    asyncio.run(run(Machine()))


def test_a_client_that_leaves_does_not_end_the_load() -> None:
    """The next one finds it done."""

    async def run(machine: Machine) -> None:
        engines = machine.engines()
        task = asyncio.ensure_future(engines.get(A, silent))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await engines.get(A, silent)
        assert machine.loads == ["a"]

    asyncio.run(run(Machine()))


def test_idle_engines_are_freed() -> None:
    """After the time to keep them; a request before that keeps them."""

    async def run(machine: Machine) -> None:
        engines = machine.engines(keep_alive=0.0)
        await engines.get(A, silent)
        engines.idle()
        await engines.get(A, silent)
        await asyncio.sleep(0.01)
        assert not machine.made[0].closed
        engines.idle()
        while not machine.made[0].closed:
            await asyncio.sleep(0.001)
        assert engines.loaded(A) is None

    asyncio.run(run(Machine()))


def test_names_are_those_of_the_list() -> None:
    """In any case of letters; the default has several names, and --models limits the others."""
    catalog = Catalog(A, lambda: [B, C], frozenset({"b"}))
    assert [model.id for model in catalog.models()] == ["a", "b"]
    assert catalog.find("B") is B
    assert catalog.find(None) is catalog.find("default") is catalog.find("A") is A
    for name in ("c", "/etc/passwd", "../b", "b\0"):
        with pytest.raises(RequestError, match="no model"):
            catalog.find(name)
    assert Catalog(A, any_name=True).find("gpt-4") is A


def test_the_servers_own_model_needs_no_look_at_the_disk() -> None:
    """Reading the headers of all files takes a tenth of a second each, and most requests name this model."""

    def disk() -> list[Model]:
        raise AssertionError("read")

    catalog = Catalog(A, disk)
    assert [catalog.find(name) for name in (None, "", A.id, A.id.upper())] == [A] * 4
    with pytest.raises(AssertionError, match="read"):
        catalog.find("another")
