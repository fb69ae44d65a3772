"""Laws of the child process that holds a model: it may die at any moment, and no token changes."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import localspec
from localspec import Engine
from localspec.errors import BackendError, WorkerError
from localspec.llama.devices import Split
from localspec.loading import spread as spreading
from localspec.loading.spread import Spread
from localspec.machines import machines
from localspec.machines.address import Address
from localspec.machines.context import RemoteContext
from localspec.machines.plan import Plan
from localspec.memory.fit import LoadSettings
from localspec.params import ContextParams
from tests.machines.fake_worker import FakeWorker, serving

LAYERS = 7
MESSAGES = [{"role": "user", "content": "Tell me a story about a brave cat."}]
TYPES = {"cache_type_k": "q8_0", "cache_type_v": "q8_0"}


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Engine]:
    """Loads in a child, with all layers on this machine; ``workers`` are those that it needs to start again."""

    def make(workers: tuple[Address, ...] = (), **options: Any) -> Engine:
        def spread(addresses: object, request: Any, params: Any, machine: object) -> Spread:
            settings = LoadSettings(params, params, 0)
            return Spread(Plan(()), (), workers or (Address("nobody"),), Split((), LAYERS), settings)

        monkeypatch.setattr(spreading, "spread_layers", spread)
        if not workers:
            monkeypatch.setattr(machines.Machines, "_check_workers", lambda self: None)
        engine = localspec.load("tiny", rpc="anyone", **{**TYPES, **options})
        return engine

    monkeypatch.setattr(machines, "RETRY_S", 0.02)
    return make


def child(engine: Engine) -> int:
    """Process id of the child that holds the target."""
    remote: Any = engine._target.model.remote  # type: ignore[attr-defined]
    return int(remote._machines._child.pid)


def kill(engine: Engine) -> None:
    os.kill(child(engine), signal.SIGKILL)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "localspec.machines"]


@pytest.fixture(scope="module")
def alone() -> Iterator[Engine]:
    with localspec.load("tiny", **TYPES) as engine:
        yield engine


@pytest.mark.parametrize("draft", ["auto", "ngram", "none"])
@pytest.mark.parametrize("sampling", [{"temperature": 0}, {"temperature": 1.2, "seed": 5}])
def test_a_child_gives_the_tokens_of_this_process(
    load: Callable[..., Engine], alone: Engine, draft: str, sampling: dict[str, Any]
) -> None:
    """With an assistant, which the child holds too, with lookup, and without a drafter."""
    with load(draft=draft) as engine:
        for messages in (MESSAGES, [{"role": "user", "content": "And of an owl."}]):
            done = engine.chat(messages, max_tokens=60, **sampling)
            assert done.tokens == alone.chat(messages, max_tokens=60, **sampling).tokens
            assert done.exactness == "exact"


def test_a_projector_that_is_left_out_is_told(load: Callable[..., Engine]) -> None:
    """It needs the model in this process."""
    with load(mmproj="auto") as engine:
        assert "On several machines no pictures and sounds are read." in engine.notices


def test_where_exactness_is_required_this_machine_uses_the_kernels_of_workers(load: Callable[..., Engine]) -> None:
    """A worker has none for repacked matrices."""
    for exactness in ("require", "prefer"):
        with load(exactness=exactness, draft="none") as engine:
            remote: Any = engine._target.model.remote  # type: ignore[attr-defined]
            (loading,) = remote._machines._models.values()
            assert loading.params.repack is (exactness == "prefer")


@pytest.mark.parametrize("at", [1, 7])
@pytest.mark.parametrize("sampling", [{"temperature": 0}, {"temperature": 1.2, "seed": 5}])
def test_a_child_that_is_killed_changes_no_token(
    load: Callable[..., Engine], alone: Engine, caplog: pytest.LogCaptureFixture, at: int, sampling: dict[str, Any]
) -> None:
    """The answer goes on from its tokens, and that is told."""
    caplog.set_level(logging.WARNING)
    with load() as engine:
        tokens = list[int]()
        for i, chunk in enumerate(engine.stream_chat(MESSAGES, max_tokens=60, **sampling)):
            tokens += chunk.tokens
            if i == at:
                kill(engine)
        assert tuple(tokens) == alone.chat(MESSAGES, max_tokens=60, **sampling).tokens
        assert len(told(caplog)) == 2
        assert "The conversation is kept" in told(caplog)[0]


def test_killed_in_the_prefill(load: Callable[..., Engine], alone: Engine) -> None:
    """It begins again."""
    messages = [{"role": "user", "content": "a brave cat and an owl " * 120}]
    with load() as engine:
        kills = iter([True])

        def progress(done: int, total: int) -> None:
            if done > 0 and next(kills, False):
                kill(engine)

        tokens = engine.chat(messages, max_tokens=20, temperature=0, progress=progress).tokens
        assert next(kills, None) is None
        assert tokens == alone.chat(messages, max_tokens=20, temperature=0).tokens


def test_killed_between_two_turns(load: Callable[..., Engine], alone: Engine) -> None:
    """The next turn prefills only what is new, as if nothing had happened."""
    with load() as engine:
        first = engine.chat(MESSAGES, max_tokens=30, temperature=0)
        kill(engine)
        messages = [*MESSAGES, first.message, {"role": "user", "content": "And then?"}]
        done = engine.chat(messages, max_tokens=30, temperature=0)
        alone.chat(MESSAGES, max_tokens=30, temperature=0)
        again = alone.chat(messages, max_tokens=30, temperature=0)
        assert done.tokens == again.tokens
        assert done.stats.cached_tokens == again.stats.cached_tokens > 0


def test_a_worker_that_stays_away_is_an_error_and_the_conversation_is_kept(
    load: Callable[..., Engine], alone: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same engine answers when it is back."""
    monkeypatch.setattr(machines, "PATIENCE_S", 0.1)
    with _port() as port:
        worker = Address("127.0.0.1", port)
    with load((worker,)) as engine:
        first = engine.chat(MESSAGES, max_tokens=30, temperature=0)
        kill(engine)
        messages = [*MESSAGES, first.message, {"role": "user", "content": "And then?"}]
        for _ in range(2):
            with pytest.raises(WorkerError, match=f"no worker listens at {worker}"):
                engine.chat(messages, max_tokens=30, temperature=0)
        with serving(FakeWorker(), port):
            done = engine.chat(messages, max_tokens=30, temperature=0)
        alone.chat(MESSAGES, max_tokens=30, temperature=0)
        assert done.tokens == alone.chat(messages, max_tokens=30, temperature=0).tokens


@pytest.mark.parametrize("where", [(machines.Machines, "_await_workers"), (RemoteContext, "replay")])
def test_an_interrupt_while_a_child_is_started_again_keeps_the_conversation(
    load: Callable[..., Engine], alone: Engine, monkeypatch: pytest.MonkeyPatch, where: tuple[type, str]
) -> None:
    """Ctrl-C in the wait for workers, and when half of the cache is filled again."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with load() as engine:
        engine.measure()
        first = engine.chat(MESSAGES, max_tokens=30, temperature=0)
        kill(engine)
        messages = [*MESSAGES, first.message, {"role": "user", "content": "And then?"}]
        with monkeypatch.context() as patch:
            patch.setattr(*where, interrupted)
            with pytest.raises(KeyboardInterrupt):
                engine.chat(messages, max_tokens=30, temperature=0)
        done = engine.chat(messages, max_tokens=30, temperature=0)
        alone.chat(MESSAGES, max_tokens=30, temperature=0)
        assert done.tokens == alone.chat(messages, max_tokens=30, temperature=0).tokens


@contextmanager
def _port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield int(taken.getsockname()[1])


def test_a_child_that_always_ends_is_an_error(load: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few tries; the sentence says how it ended."""
    with load() as engine:
        monkeypatch.setattr(machines.Machines, "_start_again", _dead)
        kill(engine)
        with pytest.raises(BackendError, match="the process that holds the model ended"):
            engine.generate("Once", max_tokens=5)


def _dead(owner: Any) -> Any:
    owner._child = made = machines.Child()
    os.kill(made.pid, signal.SIGKILL)
    return made


def test_a_saved_state_survives_a_child(load: Callable[..., Engine], tmp_path: Path) -> None:
    """One that was restored is restored again."""
    with load() as engine:
        first = engine.chat(MESSAGES, max_tokens=30, temperature=0)
        engine.save_state(tmp_path / "state")
        messages = [*MESSAGES, first.message, {"role": "user", "content": "And then?"}]
        wanted = engine.chat(messages, max_tokens=30, temperature=0)
        engine.load_state(tmp_path / "state")
        kill(engine)
        assert engine.chat(messages, max_tokens=30, temperature=0).tokens == wanted.tokens


def test_several_conversations_survive_a_child(load: Callable[..., Engine], alone: Engine) -> None:
    """Each sequence of the cache is filled again."""
    with load(parallel=2) as engine:
        streams = [
            engine.stream(prompt, max_tokens=40, temperature=0) for prompt in ("Once upon a time", "One day the owl")
        ]
        tokens: list[list[int]] = [[], []]
        for found, stream in zip(tokens, streams, strict=True):
            found.extend(next(stream).tokens)
        kill(engine)
        for found, stream in zip(tokens, streams, strict=True):
            for chunk in stream:
                found.extend(chunk.tokens)
        for found, prompt in zip(tokens, ("Once upon a time", "One day the owl"), strict=True):
            assert tuple(found) == alone.generate(prompt, max_tokens=40, temperature=0).tokens


def test_the_child_ends_with_the_engine(load: Callable[..., Engine]) -> None:
    """Closing frees the memory."""
    engine = load()
    number = child(engine)
    engine.close()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_an_error_of_the_child_is_raised_here(load: Callable[..., Engine], tmp_path: Path) -> None:
    """With its own kind and sentence; the child goes on."""
    with load() as engine:
        remote: Any = engine._target.model.remote  # type: ignore[attr-defined]
        with pytest.raises(localspec.ModelError):
            remote._machines.load(tmp_path / "missing.gguf", ContextParams(), None)
        assert engine.generate("Once", max_tokens=5, temperature=0).tokens
