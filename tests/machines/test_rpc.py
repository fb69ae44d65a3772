"""Laws of a model with a layer on a worker. Needs a llama.cpp with RPC, which wheels lack."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import localspec
from localspec.errors import UsageError, WorkerError
from localspec.llama.rpc import supports_rpc
from localspec.machines import machines
from localspec.machines.address import Address
from localspec.machines.probe import probe

pytestmark = pytest.mark.skipif(not supports_rpc(), reason="this build of llama.cpp lacks RPC")
MESSAGES = [{"role": "user", "content": "Tell me a story about a brave cat."}]


class RunningWorker:
    """``localspec worker`` on a free port of the loopback address."""

    def __init__(self, *flags: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.address = Address("127.0.0.1", int(taken.getsockname()[1]))
        self._flags = flags
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "localspec", "worker", "--port", str(self.address.port), *self._flags]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while True:
            try:
                probe(self.address, measured=False)
                return
            except WorkerError:
                assert time.monotonic() < until
                time.sleep(0.05)

    def kill(self) -> None:
        """Its child ends with it."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def worker() -> Iterator[RunningWorker]:
    made = RunningWorker()
    yield made
    made.kill()


@pytest.mark.parametrize("draft", ["auto", "ngram"])
@pytest.mark.parametrize("sampling", [{"temperature": 0}, {"temperature": 1.0, "seed": 3}])
def test_a_split_model_gives_the_tokens_of_one_machine(
    worker: RunningWorker, draft: str, sampling: dict[str, float]
) -> None:
    """With an assistant, whose layers stay here, and with lookup; every row is exact."""
    with localspec.load("tiny", draft, cache_type_k="q8_0", cache_type_v="q8_0") as alone:
        wanted = alone.chat(MESSAGES, max_tokens=60, **sampling)  # type: ignore[arg-type]
    with localspec.load("tiny", draft, rpc=f"{worker.address}=1") as engine:
        done = engine.chat(MESSAGES, max_tokens=60, **sampling)  # type: ignore[arg-type]
        assert engine.model.plan is not None
        assert [share.count for share in engine.model.plan.workers] == [1]
    assert done.tokens == wanted.tokens
    assert done.exactness == "exact"


def test_a_worker_that_is_killed_changes_no_token(worker: RunningWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for, and the answer goes on."""
    monkeypatch.setattr(machines, "RETRY_S", 0.05)
    with localspec.load("tiny", rpc=f"{worker.address}=1") as engine:
        wanted = engine.chat(MESSAGES, max_tokens=60, temperature=1.0, seed=3).tokens
        engine.forget()
        tokens = list[int]()
        for i, chunk in enumerate(engine.stream_chat(MESSAGES, max_tokens=60, temperature=1.0, seed=3)):
            tokens += chunk.tokens
            if i == 3:
                worker.kill()
                worker.start()
        assert tuple(tokens) == wanted


def test_a_worker_serves_one_program(worker: RunningWorker) -> None:
    """A second one is told so."""
    with (
        localspec.load("tiny", rpc=f"{worker.address}=1"),
        pytest.raises(WorkerError, match="it serves one program at a time"),
    ):
        probe(worker.address, timeout=0.5)
    probe(worker.address)


@pytest.mark.parametrize("types", [("q8_0", "f16"), ("f16", None), ("q4_0", "q4_0")])
def test_types_that_end_a_worker_are_refused(worker: RunningWorker, types: tuple[str, str | None]) -> None:
    """Before anything is loaded."""
    if types == ("f16", None):
        with localspec.load("tiny", rpc=f"{worker.address}=1", cache_type_k="f16") as engine:
            assert engine.generate("Once", max_tokens=3).tokens
        return
    with pytest.raises(UsageError, match="must both be q8_0 or both f16"):
        localspec.load("tiny", rpc=f"{worker.address}=1", cache_type_k=types[0], cache_type_v=types[1])


def test_a_worker_offers_the_memory_that_it_may(tmp_path: Path) -> None:
    """And keeps its cache where it is told; an interrupt ends it."""
    worker = RunningWorker("--memory", "300", "--cache", str(tmp_path))
    try:
        assert probe(worker.address).devices[0].free == 300 << 20
    finally:
        worker.process.send_signal(signal.SIGINT)
        assert worker.process.wait() == 130


def test_doctor_shows_the_plan(worker: RunningWorker) -> None:
    """Of each machine, with what it predicts."""
    command = [sys.executable, "-m", "localspec", "doctor", "--json", "--rpc", f"{worker.address}=1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout)["machines"]
    assert [row["layers"] for row in rows] == [1, 6]
    assert rows[0]["name"] == str(worker.address)
    assert rows[0]["link_ms"] > 0
    assert rows[0]["compute_ms"] > 0
