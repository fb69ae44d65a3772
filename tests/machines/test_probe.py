"""Laws of the probe: a worker that llama.cpp could not use is an error with the next step, never anything else."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from localspec.errors import UsageError, WorkerError
from localspec.machines import probe as probing
from localspec.machines.address import DEFAULT_PORT, Address, parse_workers
from localspec.machines.probe import probe, probe_all
from localspec.machines.wire import F32, MUL_MAT, Tensor
from tests.machines.fake_worker import FakeWorker, serving

Q4_0 = 2


def test_a_worker_is_measured() -> None:
    """Its version, devices and memory are told; the link and every device have a speed."""
    with serving(FakeWorker(devices=2)) as address:
        found = probe(address)
    assert found.address == address
    assert found.version == (7, 0, 0)
    assert [(device.free, device.total) for device in found.devices] == [(2 << 30, 4 << 30)] * 2
    assert found.round_trip_s > 0
    assert found.bandwidth > 0
    assert all(device.speed > 0 for device in found.devices)


def test_without_memory_nothing_is_measured() -> None:
    """A worker that cannot give the buffer is still one."""
    with serving(FakeWorker(buffers=False)) as address:
        assert probe(address).devices[0].speed == 0.0


def test_a_quick_probe_measures_no_device() -> None:
    """It asks for what is needed to connect again."""
    with serving(FakeWorker()) as address:
        assert probe(address, measured=False).devices[0].speed == 0.0


@pytest.mark.parametrize(
    ("worker", "words"),
    [
        (FakeWorker(version=(8, 0, 0)), "version 8.0.0 of llama.cpp's RPC, and this program 7.0.0"),
        (FakeWorker(version=(7, 0, 1)), "version 7.0.1"),
        (FakeWorker(silent=True), "it serves one program at a time"),
        (FakeWorker(after_hello=b""), "closed the connection"),
        (FakeWorker(after_hello=b"HTTP/1.1 400 Bad Request\r\n\r\n"), "no RPC worker"),
        (FakeWorker(devices=0), "offers 0 devices"),
        (FakeWorker(devices=1000), "offers 1000 devices"),
    ],
)
def test_other_programs_are_refused(worker: FakeWorker, words: str) -> None:
    """Of another version, busy, or of another kind: the sentence names the worker."""
    with serving(worker) as address, pytest.raises(WorkerError, match=words) as error:
        probe(address, timeout=0.3)
    assert str(address) in str(error.value)


def test_nothing_listens() -> None:
    """The sentence names the command that starts a worker."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(WorkerError, match=f"localspec worker --port {port}"):
        probe(Address("127.0.0.1", port))


@pytest.mark.parametrize(("host", "flags"), [("localhost", ""), ("10.0.0.2", "--host 10.0.0.2 ")])
def test_the_command_listens_where_it_is_looked_for(monkeypatch: pytest.MonkeyPatch, host: str, flags: str) -> None:
    """Loopback is the worker's default."""

    def refuse(*_: object) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(WorkerError, match=f"`localspec worker {flags}--port 50052`"):
        probe(Address(host))


def test_a_worker_with_two_names_is_refused() -> None:
    """llama.cpp would wait for ever for the second connection."""
    with serving(FakeWorker()) as address:
        two = (Address("localhost", address.port), address)
        with pytest.raises(UsageError, match=f"twice, as localhost:{address.port} and as {address}"):
            probe_all(two, Q4_0)
        assert len(probe_all([address], Q4_0)) == 1


def test_no_such_machine() -> None:
    """A name without an address."""
    with pytest.raises(WorkerError, match="no machine called"):
        probe(Address("no-such-machine.invalid"))


def test_addresses() -> None:
    """Hosts, ports and numbers of layers, from a text or a list."""
    assert parse_workers("a, 10.0.0.2:70=5") == (Address("a", DEFAULT_PORT), Address("10.0.0.2", 70, 5))
    assert parse_workers(["a:1", "b:2,c:3"]) == (Address("a", 1), Address("b", 2), Address("c", 3))
    assert str(Address("a", 1, 7)) == "a:1"


@pytest.mark.parametrize("text", ["", "::1", "[::1]:50052", "a:0", "a:70000", "a:x", "a b", "a=-1", "a,a", "a:1,a:1=3"])
def test_no_addresses(text: str) -> None:
    """IPv6, which llama.cpp cannot connect to, ports that do not exist, and workers named twice."""
    with pytest.raises(UsageError, match="--rpc"):
        parse_workers(text)


def test_a_tensor_has_the_size_of_ggml_structure() -> None:
    """Of ``rpc_tensor``, which is packed."""
    assert len(Tensor(1, F32, (4, 2), 16, 3, 4, MUL_MAT, (5, 6)).packed()) == 296


def test_the_matrix_of_a_measurement_has_the_types_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """ggml checks that a row fits into its buffer."""
    asked = list[Tensor]()
    monkeypatch.setattr(probing, "graph", lambda device, node, sources: asked.append(sources[0]) or b"")
    with serving(FakeWorker()) as address:
        probe(address, kind=Q4_0)
    assert {(matrix.type, matrix.row_bytes) for matrix in asked} == {(Q4_0, 4096 // 32 * 18)}


def test_the_probe_knows_nothing_of_llama_cpp() -> None:
    """It cannot abort."""
    for name in ("probe", "wire", "address", "plan"):
        text = Path(f"localspec/machines/{name}.py").read_text(encoding="utf-8")
        assert "localspec.llama" not in text
