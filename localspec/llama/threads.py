"""Fewer threads while other programs use the CPU.

llama.cpp's threads meet at a barrier after every operation, hundreds of times in a pass. If one of them is not running,
because another program has its CPU, the others wait. As many threads as there are free CPUs are then much faster. The
free CPUs are counted from the idle time of the machine and the CPU time of this process. Linux only: elsewhere the
number of threads is fixed.
"""

from __future__ import annotations

import math
import os
import platform
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter, process_time, sleep

#: Seconds between two counts. The kernel counts in ticks of 0.01 s.
_INTERVAL_S = 0.2
#: Share of a CPU that others may use before a thread gives way. On 2 CPUs one thread has 3/4 of the speed of two.
_TOLERATED = 0.4
#: The share at which a thread comes back. The distance to _TOLERATED covers errors of counting.
_RETURN = 0.25
#: An interval that is longer, in seconds, tells more of the past than of the present.
_STALE_S = 1.0
#: Readings of what can run now, and the seconds between them.
_READINGS, _APART_S = 3, 0.002
#: The columns of /proc/stat that count idle time, in ticks: idle and iowait.
_IDLE_COLUMNS = (4, 5)
_STAT = Path("/proc/stat")
_LOADAVG = Path("/proc/loadavg")
#: Variables of libgomp, llama.cpp's OpenMP library on Linux, that set how long a thread spins at a barrier.
_SPIN_VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
#: Turns of that wait before the thread sleeps. A turn takes 25 ns (measured on an AMD Zen 4) to 60 ns. The default,
#: 300,000 turns, wastes up to 8 ms at a barrier whenever the thread that is waited for has no CPU.
_SPIN_COUNT = 5_000


@contextmanager
def brief_spinning() -> Iterator[None]:
    """Let threads spin only briefly at a barrier, if llama.cpp is loaded inside, unless the user chose otherwise.

    libgomp reads the environment when it is loaded. The variable is removed afterwards: it is not for child processes.
    """
    applies = sys.platform == "linux" and platform.machine() == "x86_64"  # elsewhere a turn takes another time
    if not applies or any(name in os.environ for name in _SPIN_VARIABLES):
        yield
        return
    os.environ[_SPIN_VARIABLES[0]] = str(_SPIN_COUNT)
    try:
        yield
    finally:
        del os.environ[_SPIN_VARIABLES[0]]


def thread_count(most: int, current: int, free: float) -> int:
    """Threads for the next pass: at most ``most``, with ``current`` threads now and ``free`` CPUs for this process."""
    free = min(free, most)
    if (fitting := math.floor(free + _TOLERATED)) < current:
        return max(1, fitting)
    return max(current, math.floor(free + _RETURN))


def idle_seconds(report: str, cpus: Collection[int], tick: float) -> float:
    """Sum of the idle seconds of ``cpus`` in the text of /proc/stat, which counts ticks of ``tick`` seconds.

    Raises ValueError for another text.
    """
    lines = (line.split() for line in report.splitlines())
    found = {fields[0]: fields for fields in lines if fields and fields[0].startswith("cpu")}
    try:
        return tick * sum(int(found[f"cpu{cpu}"][column]) for cpu in cpus for column in _IDLE_COLUMNS)
    except (KeyError, IndexError) as error:
        raise ValueError(report[:100]) from error


def read_idle() -> float:
    """Idle seconds of all CPUs that this process may use, since the start of the system. Raises OSError, ValueError."""
    return idle_seconds(_STAT.read_text(), os.sched_getaffinity(0), 1 / os.sysconf("SC_CLK_TCK"))


def read_free() -> float:
    """CPUs of the machine less the other threads that can run at this moment. Raises OSError, ValueError, IndexError.

    The most of some readings: a program that runs for a moment, such as the one that sends a request, is not busy.
    """
    found = _read_free()
    for _ in range(_READINGS - 1):
        if found >= (os.cpu_count() or 1):
            break
        sleep(_APART_S)
        found = max(found, _read_free())
    return found


def _read_free() -> float:
    runnable = int(_LOADAVG.read_text().split()[3].partition("/")[0])
    return (os.cpu_count() or 1) - (runnable - 1)


class FreeCpus:
    """Number of CPUs that other programs leave to this process: those that are idle and those that it uses.

    ``free_now`` is asked where the last count is long ago: what ran between two answers may have ended. The next count
    is soon, because it tells only of a moment.
    """

    def __init__(
        self,
        idle: Callable[[], float] = read_idle,
        own: Callable[[], float] = process_time,
        clock: Callable[[], float] = perf_counter,
        free_now: Callable[[], float] | None = None,
    ) -> None:
        self._idle, self._own, self._clock, self._free_now = idle, own, clock, free_now
        self._free = math.inf
        self._next = 0.0
        self._before: tuple[float, float, float] | None = None

    def count(self) -> float:
        """The free CPUs in the last interval; infinity until they are known, and where they are not counted."""
        now = self._clock()
        if now < self._next:
            return self._free
        try:
            idle = self._idle()
        except (AttributeError, OSError, ValueError):  # not Linux, or no /proc
            self._next = math.inf
            return self._free
        own, before = self._own(), self._before
        self._before, self._next = (now, idle, own), now + _INTERVAL_S
        if before is not None:
            self._free = (idle - before[1] + own - before[2]) / (now - before[0])
            if self._free_now is not None and now - before[0] > _STALE_S:
                with suppress(OSError, ValueError, IndexError):
                    self._free, self._next = self._free_now(), now + _INTERVAL_S / 2
        return self._free


#: Counts for all contexts of this process.
FREE_CPUS = FreeCpus(free_now=read_free)
