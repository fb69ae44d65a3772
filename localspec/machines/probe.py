"""Probe a worker from Python, before llama.cpp connects: llama.cpp aborts the process on any trouble with one."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from localspec.errors import UsageError, WorkerError
from localspec.gguf.types import BLOCKS
from localspec.machines.address import Address
from localspec.machines.wire import (
    F32,
    HELLO,
    HELLO_RESPONSE,
    LENGTH,
    MUL_MAT,
    Q8_0,
    VERSION,
    Command,
    Tensor,
    get_tensor,
    graph,
    request,
    set_tensor,
)

if TYPE_CHECKING:
    from typing_extensions import Self

#: Seconds in which a worker must connect and say its version, and then answer a message: it may be slow, or busy.
TIMEOUT_S, _ANSWER_S = 3.0, 20.0
#: Messages by which the round trip is measured; the fastest counts.
_TRIPS = 8
#: Bytes by which the bandwidth is measured: first few, and many where these took less than ``_SHORT_S``.
_FEW, _MANY, _SHORT_S = 2**18, 2**23, 0.1
#: Matrix by which the speed is measured, in columns and rows: 38 MB of Q4_0. And products of it with a vector in a row.
_COLUMNS, _ROWS, _PRODUCTS = 4096, 16384, 3
_MOST_DEVICES = 16


@dataclass(frozen=True)
class WorkerDevice:
    """A device of a worker: memory in bytes, and bytes of weights that it reads in a second (0: not measured)."""

    free: int
    total: int
    speed: float = 0.0


@dataclass(frozen=True)
class Worker:
    """Result of a probe. ``round_trip_s``: of an empty message. ``bandwidth``: bytes a second to the worker."""

    address: Address
    version: tuple[int, int, int]
    devices: tuple[WorkerDevice, ...]
    round_trip_s: float
    bandwidth: float


def probe(address: Address, *, measured: bool = True, kind: int = Q8_0, timeout: float = TIMEOUT_S) -> Worker:
    """Connect to a worker, ask for its devices, and measure it and its link unless ``measured`` is False.

    ``kind``: ggml's number of the type of weights; kernels of a CPU read some types slower than others.
    Raises :class:`WorkerError` where llama.cpp could not use it.
    """
    try:
        with _Connection(address, timeout) as connection:
            version = connection.hello()
            count = connection.numbers(Command.DEVICE_COUNT, b"", "<I")[0]
            if not 0 < count <= _MOST_DEVICES:
                raise WorkerError(f"the worker {address} offers {count} devices; it must be 1 to {_MOST_DEVICES}.")
            trip = connection.round_trip()
            found, bandwidth = [], 0.0
            for device in range(count):
                free, total = connection.numbers(Command.GET_DEVICE_MEMORY, struct.pack("<I", device), "<QQ")
                speed = 0.0
                if measured:
                    bandwidth, speed = connection.measure(device, trip, kind)
                found.append(WorkerDevice(free, total, speed))
    except OSError as error:
        raise WorkerError(_trouble(address, error)) from error
    return Worker(address, version, tuple(found), trip, bandwidth)


def probe_all(addresses: Sequence[Address], kind: int) -> tuple[Worker, ...]:
    """Probe workers, one after another. Raises :class:`UsageError` for one that has two names."""
    found = tuple(probe(address, kind=kind) for address in addresses)
    places = [(socket.gethostbyname(address.host), address.port) for address in addresses]
    for place, address in zip(places, addresses, strict=True):
        first = addresses[places.index(place)]
        if first is not address:
            raise UsageError(f"--rpc names a worker twice, as {first} and as {address}; name it once.")
    return found


def _trouble(address: Address, error: OSError) -> str:
    """A sentence for an error of the network."""
    if isinstance(error, ConnectionRefusedError):
        return f"no worker listens at {address}; start one there with `localspec worker {_flags(address)}`."
    if isinstance(error, socket.gaierror):
        return f"there is no machine called {address.host}; check the name, or give its IPv4 address."
    if isinstance(error, TimeoutError):
        return f"the worker {address} does not answer; check that the machine is on and lets us through."
    reason = error.strerror or str(error)
    return f"the worker {address} cannot be used ({reason}); check that it still runs."


def _flags(address: Address) -> str:
    """Options with which a worker listens at ``address``."""
    other = address.host.replace(".", "").isdigit() and not address.host.startswith("127.")
    return f"--host {address.host} --port {address.port}" if other else f"--port {address.port}"


class _Connection:
    """A connection to a worker that measures it with a matrix product."""

    def __init__(self, address: Address, timeout: float) -> None:
        self._address = address
        found = socket.getaddrinfo(address.host, address.port, socket.AF_INET, socket.SOCK_STREAM)[0][4]
        self._socket = socket.create_connection((str(found[0]), address.port), timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def hello(self) -> tuple[int, int, int]:
        """Exchange versions. Raises :class:`WorkerError` for another one, or for something that is no worker."""
        self._send(Command.HELLO, HELLO)
        try:
            answer = self._receive(HELLO_RESPONSE)
        except TimeoutError:
            raise WorkerError(
                f"the worker {self._address} does not answer: it serves one program at a time, and takes the next when "
                "that one ends or has been silent for half a minute; or something else than a worker listens there."
            ) from None
        self._socket.settimeout(max(_ANSWER_S, self._socket.gettimeout() or 0.0))
        version = (answer[0], answer[1], answer[2])
        if version != VERSION:
            theirs, ours = (".".join(map(str, numbers)) for numbers in (version, VERSION))
            raise WorkerError(
                f"the worker {self._address} speaks version {theirs} of llama.cpp's RPC, and this program {ours}; "
                "install the same localspec and llama-cpp-python on both machines."
            )
        return version

    def numbers(self, command: Command, body: bytes, form: str) -> tuple[int, ...]:
        """The numbers of a response with this form, in :mod:`struct`'s words."""
        self._send(command, body)
        return struct.unpack(form, self._receive(struct.calcsize(form)))

    def round_trip(self) -> float:
        """Least seconds of a message without content."""
        times = []
        for _ in range(_TRIPS):
            began = perf_counter()
            self.numbers(Command.DEVICE_COUNT, b"", "<I")
            times.append(perf_counter() - began)
        return min(times)

    def measure(self, device: int, trip: float, kind: int) -> tuple[float, float]:
        """Bytes a second to the worker, and bytes of weights that the device reads in a second; 0 without memory."""
        elements, block = BLOCKS[kind]
        row = _COLUMNS // elements * block
        weights, vector, out = row * _ROWS, _COLUMNS * 4, _ROWS * 4
        size = max(weights + vector + out, _MANY)
        buffer, _ = self.numbers(Command.ALLOC_BUFFER, struct.pack("<IQ", device, size), "<QQ")
        if not buffer:
            return 0.0, 0.0
        base = self.numbers(Command.BUFFER_GET_BASE, struct.pack("<Q", buffer), "<Q")[0]
        matrix = Tensor(1, kind, (_COLUMNS, _ROWS), row, buffer, base)
        inputs = Tensor(2, F32, (_COLUMNS, 1), vector, buffer, base + weights)
        result = Tensor(3, F32, (_ROWS, 1), out, buffer, base + weights + vector, MUL_MAT, (1, 2))
        bandwidth = self._bandwidth(Tensor(4, F32, (_MANY // 4, 1), _MANY, buffer, base), trip)
        self._send(Command.BUFFER_CLEAR, struct.pack("<QB", buffer, 0))
        job, first = graph(device, result, (matrix, inputs)), get_tensor(result, 4)
        times = []
        for _ in range(_PRODUCTS):
            began = perf_counter()
            self._send(Command.GRAPH_COMPUTE, job)
            self.numbers(Command.GET_TENSOR, first, "<I")
            times.append(perf_counter() - began)
        self._send(Command.FREE_BUFFER, struct.pack("<Q", buffer))
        return bandwidth, weights / max(min(times) - trip, 1e-5)

    def _bandwidth(self, target: Tensor, trip: float) -> float:
        seconds = 0.0
        for size in (_FEW, _MANY):
            began = perf_counter()
            self._send(Command.SET_TENSOR, set_tensor(target, bytes(size)))
            self.numbers(Command.DEVICE_COUNT, b"", "<I")
            seconds = max(perf_counter() - began - trip, 1e-6)
            if seconds > _SHORT_S:
                break
        return size / seconds

    def _send(self, command: Command, body: bytes) -> None:
        self._socket.sendall(request(command, body))

    def _receive(self, size: int) -> bytes:
        """The body of a response. Raises :class:`WorkerError` where it has another size."""
        (length,) = LENGTH.unpack(self._read(LENGTH.size))
        if length != size:
            raise WorkerError(
                f"what listens at {self._address} is no RPC worker of llama.cpp; start one with `localspec worker`."
            )
        return self._read(size)

    def _read(self, size: int) -> bytes:
        parts, missing = [], size
        while missing:
            part = self._socket.recv(min(missing, 2**16))
            if not part:
                raise WorkerError(
                    f"the worker {self._address} closed the connection; it may be of another version, or another kind "
                    "of program. Start it with `localspec worker` of this version."
                )
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)
