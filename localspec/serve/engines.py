"""Engines in memory: loaded when a request names their model, freed when another needs the room or nobody asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from localspec.engine import Engine
from localspec.errors import BackendError
from localspec.serve.catalog import Catalog, Model, Need

#: Loads a model; called with it and with a function that is told the share loaded.
Load = Callable[[Model, Callable[[float], None]], Engine]


@dataclass
class _Loaded:
    engine: Engine
    used: float = field(default_factory=time.monotonic)
    uses: int = 0


class Engines:
    """Engines by the id of their model. One that is in use is not freed.

    ``need`` tells what a load takes, None where that is unknown. ``keep_alive``: seconds after which an idle engine is
    freed; None keeps it.
    """

    def __init__(
        self,
        catalog: Catalog,
        load: Load,
        need: Callable[[Model], Need | None] = lambda model: None,
        keep_alive: float | None = None,
    ) -> None:
        self.catalog = catalog
        self._load, self._need, self._keep_alive = load, need, keep_alive
        self._loaded: dict[str, _Loaded] = {}
        self._loading, self._making_room = asyncio.Lock(), asyncio.Lock()
        self._left = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._freeing = set[asyncio.Task[None]]()

    def add(self, model: Model, engine: Engine) -> None:
        """Add an engine that is loaded already. A new pair is measured from now on, while nobody asks."""
        self._loaded[model.id] = _Loaded(engine)
        with suppress(BackendError):  # without enough memory answers stay plain
            engine.measure(0.0)

    def loaded(self, model: Model) -> Engine | None:
        """The engine of a model, if it is in memory."""
        found = self._loaded.get(model.id)
        return found.engine if found else None

    async def get(self, model: Model, note: Callable[[str], None]) -> Engine:
        """The engine of ``model``, loaded if need be; it may be freed for another one.

        A load that nobody waits for any more goes on and is kept.
        """
        self._cancel_timer()
        engine = self.loaded(model)
        if engine is None:
            engine = await asyncio.shield(asyncio.ensure_future(self._get(model, note)))
        if model.id in self._loaded:
            self._loaded[model.id].used = time.monotonic()
        return engine

    @asynccontextmanager
    async def use(self, model: Model, note: Callable[[str], None]) -> AsyncGenerator[Engine, None]:
        """The engine of ``model``, which is not freed within the block."""
        async with self._making_room:  # those that wait for others to end come first
            pass
        while (found := self._loaded.get(model.id)) is None:
            await self.get(model, note)
        self._cancel_timer()
        found.uses, found.used = found.uses + 1, time.monotonic()
        try:
            yield found.engine
        finally:
            found.uses -= 1
            self._left.set()

    async def _get(self, model: Model, note: Callable[[str], None]) -> Engine:
        async with self._loading:
            engine = self.loaded(model)
            if engine is None:
                await self._make_room(model, note)
                note(f"loading {model.id}")
                engine = await self._load_in_thread(model, note)
                self._loaded[model.id] = _Loaded(engine)
            return engine

    async def _load_in_thread(self, model: Model, note: Callable[[str], None]) -> Engine:
        loop, last = asyncio.get_running_loop(), 0.0

        def progress(share: float) -> None:
            nonlocal last
            if share >= last + 0.1:
                last = share
                loop.call_soon_threadsafe(note, f"loading {model.id}: {share:.0%}")

        return await asyncio.to_thread(self._load, model, progress)

    async def _make_room(self, model: Model, note: Callable[[str], None]) -> None:
        """Free engines, the one that is idle longest first, until ``model`` fits."""
        async with self._making_room:
            while self._loaded:
                need = await asyncio.to_thread(self._need, model)
                if need is not None and need.fits:
                    return
                self._left.clear()
                idle = [name for name, found in self._loaded.items() if not found.uses]
                if not idle:
                    note(f"waiting for {', '.join(self._loaded)} to end")
                    await self._left.wait()
                    continue
                oldest = min(idle, key=lambda name: self._loaded[name].used)
                note(f"freeing {oldest}")
                await self._free(oldest)

    async def _free(self, name: str) -> None:
        found = self._loaded.pop(name, None)
        if found is not None:
            await asyncio.to_thread(found.engine.close)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def idle(self) -> None:
        """Nothing runs from now on."""
        if self._keep_alive is not None:
            self._timer = asyncio.get_running_loop().call_later(self._keep_alive, self._free_idle)

    def _free_idle(self) -> None:
        for name in [name for name, found in self._loaded.items() if not found.uses]:
            task = asyncio.ensure_future(self._free(name))
            self._freeing.add(task)
            task.add_done_callback(self._freeing.discard)

    def stop(self) -> None:
        """End every answer after its pass."""
        for found in self._loaded.values():
            found.engine.stop()

    def close(self) -> None:
        """Free all engines. Blocks until what runs has ended its pass."""
        for found in self._loaded.values():
            found.engine.close()
        self._loaded.clear()
