"""Laws of the number of threads: fewer beside busy programs, the same bits with any number."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import localspec
from localspec.gguf.header import read_header
from localspec.llama import native, threads
from localspec.llama.binding import set_fields
from localspec.llama.context import LlamaContext
from localspec.llama.model import LlamaModel
from localspec.llama.threads import FreeCpus, brief_spinning, idle_seconds, read_free, read_idle, thread_count
from localspec.models.resolve import TINY_TARGET
from localspec.params import ContextParams
from localspec.protocols import Rows

most_and_current = st.integers(1, 64).flatmap(lambda most: st.tuples(st.just(most), st.integers(1, most)))


@given(most_and_current, st.floats(-1.0, 1e3) | st.just(math.inf))
def test_a_count_is_possible_and_settles_at_once(counts: tuple[int, int], free: float) -> None:
    """From 1 to all, and no other at the next pass."""
    most, current = counts
    found = thread_count(most, current, free)
    assert 1 <= found <= most
    assert thread_count(most, found, free) == found


@given(st.integers(2, 64), st.floats(-0.15, 0.2))
def test_one_busy_program_takes_one_thread_and_gives_it_back(most: int, error: float) -> None:
    """Whatever the errors of counting."""
    assert thread_count(most, most, most - 1 + error) == most - 1
    assert thread_count(most, most - 1, most - 1 + error) == most - 1
    assert thread_count(most, most - 1, most + error) == most
    assert thread_count(most, most, most + error) == most


@given(most_and_current)
def test_where_nothing_is_counted_all_threads_run(counts: tuple[int, int]) -> None:
    """The free CPUs are infinite there."""
    assert thread_count(*counts, math.inf) == counts[0]


STAT = """cpu  100 0 50 1000 30 0 0 0 0 0
cpu0 40 0 20 600 10 0 0 0 0 0
cpu1 60 0 30 400 20 0 0 0 0 0
intr 5
"""


def test_idle_time_is_that_of_the_given_cpus() -> None:
    """Idle and waiting for a disk."""
    assert idle_seconds(STAT, {0, 1}, 0.01) == pytest.approx(10.3)
    assert idle_seconds(STAT, {1}, 0.01) == pytest.approx(4.2)


@pytest.mark.parametrize("text", ["", "cpu0", "cpu0 1 2\ncpu1 1 2", "cpu0 a b c d e f\ncpu1 a b c d e f", STAT[:70]])
def test_another_text_is_an_error(text: str) -> None:
    """Which :class:`FreeCpus` takes for a system that does not count."""
    with pytest.raises(ValueError):
        idle_seconds(text, {0, 1}, 0.01)


class Machine:
    """A clock, and the idle time and own time of a machine with two CPUs."""

    def __init__(self) -> None:
        self.now = self.idle = self.own = 0.0
        self.reads = 0

    def read_idle(self) -> float:
        self.reads += 1
        return self.idle

    def run(self, seconds: float, own: float, others: float) -> None:
        self.now += seconds
        self.own += seconds * own
        self.idle += seconds * (2 - own - others)

    def free_cpus(self) -> FreeCpus:
        return FreeCpus(self.read_idle, lambda: self.own, lambda: self.now)


@given(st.floats(0.0, 2.0), st.floats(0.0, 1.0), st.floats(0.3, 100.0))
def test_free_cpus_are_those_that_others_leave(others: float, share: float, seconds: float) -> None:
    """Whatever part of them this process uses."""
    machine = Machine()
    free = machine.free_cpus()
    assert free.count() == math.inf
    machine.run(seconds, (2 - others) * share, others)
    assert free.count() == pytest.approx(2 - others, abs=1e-6)


def test_the_system_is_read_a_few_times_a_second() -> None:
    """Between two reads the last count holds."""
    machine = Machine()
    free = machine.free_cpus()
    for _ in range(1000):
        machine.run(0.01, 1.0, 0.5)
        free.count()
    assert 40 <= machine.reads <= 51
    assert free.count() == pytest.approx(1.5)


@pytest.mark.parametrize("error", [OSError, ValueError, AttributeError])
def test_a_system_that_does_not_count_is_read_once(error: type[Exception]) -> None:
    """Its CPUs count as free."""
    machine = Machine()

    def fail() -> float:
        machine.read_idle()
        raise error

    free = FreeCpus(fail, lambda: machine.own, lambda: machine.now)
    for _ in range(10):
        machine.run(1.0, 1.0, 1.0)
        assert free.count() == math.inf
    assert machine.reads == 1


def test_after_a_pause_the_present_counts() -> None:
    """What ran between two answers may have ended, and what idled may be busy."""
    machine, present = Machine(), [2.0]
    free = FreeCpus(machine.read_idle, lambda: machine.own, lambda: machine.now, lambda: present[0])
    free.count()
    machine.run(20.0, 0.0, 2.0)  # others had both CPUs
    assert free.count() == 2.0
    machine.run(0.09, 1.0, 1.0)
    assert free.count() == 2.0
    machine.run(0.02, 1.0, 1.0)  # it is counted again after half an interval
    assert free.count() == pytest.approx(1.0)
    machine.run(20.0, 0.0, 0.0)
    present[0] = 1.0
    assert free.count() == 1.0


def test_a_present_that_cannot_be_read_leaves_the_count() -> None:
    def fail() -> float:
        raise IndexError

    machine = Machine()
    free = FreeCpus(machine.read_idle, lambda: machine.own, lambda: machine.now, fail)
    free.count()
    machine.run(20.0, 0.0, 0.5)
    assert free.count() == pytest.approx(1.5)


@pytest.mark.skipif(sys.platform != "linux", reason="counts on Linux only")
def test_what_can_run_now_is_read_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reading counts this thread as well, which takes no CPU from itself."""
    assert read_free() <= (os.cpu_count() or 1)
    monkeypatch.setattr(threads, "_LOADAVG", tmp_path / "loadavg")
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    (tmp_path / "loadavg").write_text("1.58 2.32 4.48 3/82 20657\n")
    assert read_free() == 6


@pytest.mark.skipif(sys.platform != "linux", reason="counts on Linux only")
def test_this_system_counts() -> None:
    """Idle time never falls."""
    assert 0.0 <= read_idle() <= read_idle()


def run_python(code: str, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "OMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**kept, **environment}
    )
    return done.stdout.strip()


def test_spinning_is_brief_and_the_environment_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that the user set is kept; other variables of OpenMP count as set too."""
    monkeypatch.setattr("localspec.llama.threads.sys.platform", "linux")
    monkeypatch.setattr("localspec.llama.threads.platform.machine", lambda: "x86_64")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    with brief_spinning():
        assert int(os.environ["GOMP_SPINCOUNT"]) < 300_000
    assert "GOMP_SPINCOUNT" not in os.environ
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    with brief_spinning():
        assert os.environ["GOMP_SPINCOUNT"] == "7"
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    with brief_spinning():
        assert "GOMP_SPINCOUNT" not in os.environ


def test_children_do_not_inherit_the_spin_count() -> None:
    """It is set while llama.cpp is loaded, and no longer."""
    code = "import os, localspec.llama.binding; print(os.environ.get('GOMP_SPINCOUNT'))"
    assert run_python(code) == "None"


class Load:
    """Free CPUs as a test sets them."""

    free = math.inf

    def count(self) -> float:
        return self.free


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    made = Load()
    monkeypatch.setattr(native, "FREE_CPUS", made)
    return made


@pytest.fixture
def context() -> Iterator[LlamaContext]:
    params = ContextParams(threads=3, batch=64)
    model = LlamaModel(read_header(TINY_TARGET), params)
    made = LlamaContext(model, params, 1024)
    yield made
    made.close()
    model.close()


TOKENS = [2, *(300 + 7 * i % 900 for i in range(900))]
WIDTHS = (64, 1, 1, 2, 3, 64, 1, 4, 5, 8, 16, 64, 64, 64, 64, 64, 64, 64, 1, 2, 64, 1, 7, 64, 1)


def all_rows(context: LlamaContext, load: Load, free: list[float]) -> list[Rows]:
    """Rows of passes of many widths, with ``free`` CPUs in turn."""
    context.rewind(0)
    rows, at = [], 0
    for i, width in enumerate(WIDTHS):
        load.free = free[i % len(free)]
        rows.append(context.decode(TOKENS[at : at + width], "all" if width <= 16 else "last").copy())
        at += width
    return rows


def test_rows_are_the_same_with_any_number_of_threads(context: LlamaContext, load: Load) -> None:
    """Bit for bit, and after a cache that other numbers of threads have written."""
    expected = all_rows(context, load, [math.inf])
    context.adapt_threads(True)
    for free in ([1.0], [2.0], [3.0, 1.0, 2.0], [1.0, 3.0]):
        found = all_rows(context, load, free)
        assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))


def test_threads_follow_the_load_only_where_that_is_on(context: LlamaContext, load: Load) -> None:
    """They are all there again when it is switched off."""
    assert context.threads == 3
    load.free = 1.0
    context.decode(TOKENS[:4])
    assert context.threads == 3
    context.adapt_threads(True)
    context.decode(TOKENS[4:8])
    assert context.threads == 1
    load.free = 2.0
    context.decode(TOKENS[8:12])
    assert context.threads == 2
    context.adapt_threads(False)
    assert context.threads == 3


def test_threads_stay_where_rows_depend_on_them(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention over F16 keys splits a long cache by threads."""
    params = ContextParams(threads=2, batch=64)

    def with_f16_keys(*arguments: Any) -> Any:
        return set_fields(native.context_options(*arguments), type_k=1)

    monkeypatch.setattr("localspec.llama.context.context_options", with_f16_keys)
    model = LlamaModel(read_header(TINY_TARGET), params)
    made = LlamaContext(model, params, 128)
    load.free = 1.0
    made.adapt_threads(True)
    made.decode(TOKENS[:4])
    assert made.threads == 2
    made.close()
    model.close()


@pytest.mark.parametrize("threads", [None, 3])
def test_an_engine_adapts_unless_the_user_chose(
    threads: int | None, load: Load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The number of threads that the user gives is kept."""
    monkeypatch.setattr(native, "_SMALL", 0)
    monkeypatch.setattr(native, "default_threads", lambda: 3)
    found: list[int] = []
    monkeypatch.setattr(native.lib, "llama_set_n_threads", lambda handle, n, batch: found.append(n))
    load.free = 2.0
    with localspec.load("tiny", "none", threads=threads, exactness="off") as engine:
        engine.generate("Once", max_tokens=4, temperature=0)
    assert found == ([2] if threads is None else [])
