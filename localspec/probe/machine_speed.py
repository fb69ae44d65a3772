"""Bandwidth and arithmetic of this machine, measured with numpy in about a second. Nothing is remembered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numpy as np

from localspec.llama.devices import Device
from localspec.llama.host import default_threads
from localspec.memory.gpu_layers import shares_memory
from localspec.memory.speed import MachineSpeed

#: Bytes that are read: more than caches hold.
_READ = 256 * 2**20
#: Rows and columns of the matrices that are multiplied.
_SIDE = 512
#: Seconds of each of the two measurements; the best of the repetitions counts, since other programs only slow them.
_SECONDS = 0.4


def measure_machine(devices: Sequence[Device]) -> MachineSpeed | None:
    """Measure the host. None where a GPU with memory of its own computes, which numpy cannot measure.

    A GPU that shares the host's memory reads at least as fast as the cores do.
    """
    gpus = [device for device in devices if device.kind in ("gpu", "igpu")]
    if any(not shares_memory(gpu) for gpu in gpus):
        return None
    return MachineSpeed(read_bandwidth(default_threads()), None if gpus else _arithmetic())


def read_bandwidth(threads: int) -> float:
    """Bytes a second of a scalar product of an array with itself, a part for each thread."""
    parts = np.array_split(np.ones(_READ // 4, np.float32), threads)
    with ThreadPoolExecutor(threads) as pool:
        return _READ / _best(lambda: list(pool.map(lambda part: np.dot(part, part), parts)))


def _arithmetic() -> float:
    """Operations a second of a product of square matrices on all cores."""
    matrix = np.ones((_SIDE, _SIDE), np.float32)
    return 2 * _SIDE**3 / _best(lambda: matrix @ matrix)


def _best(run: Callable[[], object]) -> float:
    """Least seconds of a run, of at least two."""
    times: list[float] = []
    began = perf_counter()
    while len(times) < 2 or perf_counter() - began < _SECONDS:
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return max(min(times), 1e-9)
