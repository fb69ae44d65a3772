"""Laws of expected speeds: bandwidth bounds them, drafts never lower them, a slow pair is not offered first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localspec.cli.doctor.report import fitting
from localspec.cli.model.choose import Menu, _speed_text
from localspec.llama.devices import Device
from localspec.memory.speed import USABLE, ExpectedSpeed, MachineSpeed, expected_speed, rate_text
from localspec.models.recommended import GIB, RECOMMENDED
from localspec.probe.machine_speed import measure_machine

#: Two AVX2 cores; sixteen cores with AVX-512; the memory of a MacBook Pro, whose GPU computes.
SMALL, LARGE, MAC = MachineSpeed(19e9, 100e9), MachineSpeed(80e9, 1500e9), MachineSpeed(270e9)
READ = st.integers(10**8, 2 * 10**10)
RATE = st.floats(1e9, 1e12)


@given(READ, st.integers(0, 10**9), RATE, st.none() | st.floats(1e9, 1e14), st.floats(0.0, 0.95))
def test_speed_is_bounded(read: int, draft: int, bandwidth: float, compute: float | None, acceptance: float) -> None:
    """Plain decoding reads the weights for each token; drafts that do not pay are not made; 9 tokens a pass at most."""
    found = expected_speed(read, draft, MachineSpeed(bandwidth, compute), acceptance)
    assert 0 < found.plain <= bandwidth / read * (1 + 1e-9)
    assert found.plain * (1 - 1e-9) <= found.drafted <= 9 * found.plain


def test_speeds_are_those_that_were_measured() -> None:
    """1.5B in Q4_0 (0.9 GB): 47.7 ms for a row on two AVX2 cores, 21.4 more for the next (docs/decisions.md)."""
    plain = expected_speed(900_000_000, 10**9, SMALL).plain
    assert plain == pytest.approx(1 / 0.0477, rel=0.05)
    row = 2 * 900_000_000 / (18 / 32) / (SMALL.compute or 0) / 1.4
    assert row == pytest.approx(0.0214, rel=0.1)


def test_twelve_billion_on_two_cores_are_not_offered_first() -> None:
    """They are in the menu, with their speed; on a Mac of the same memory they come before smaller ones."""
    slow, fast, unknown = (Menu.for_memory(24 * GIB, speed) for speed in (SMALL, MAC, None))
    names = [pair.target for pair in slow.pairs]
    assert names[0] in ("gemma-4-e2b-qat", "gemma-4-e4b-qat")
    assert names.index("gemma-4-12b-qat") > names.index("gemma-4-e4b-qat")
    assert not slow.speeds["gemma-4-12b-qat"].usable
    assert _speed_text(slow.speeds["gemma-4-12b-qat"]).startswith("; slow: about ")
    assert fast.pairs[0].target == unknown.pairs[0].target == "gemma-4-12b-qat"
    assert unknown.speeds == {}
    for menu in (slow, fast, unknown):
        assert [pair.built_in for pair in menu.pairs] == [False] * (len(menu.pairs) - 1) + [True]
        assert {pair.target for pair in menu.pairs} == {pair.target for pair in RECOMMENDED if pair.memory <= 24 * GIB}


@given(RATE, RATE, st.integers(0, 128))
def test_usable_pairs_come_first_the_best_of_them_at_the_top(bandwidth: float, compute: float, gib: int) -> None:
    """Then slow ones, the fastest first, and the built-in one."""
    menu = Menu.for_memory(gib * GIB, MachineSpeed(bandwidth, compute))
    pairs = menu.pairs[:-1]
    assert menu.pairs[-1].built_in
    usable = [menu.speeds[pair.target].usable for pair in pairs]
    assert usable == sorted(usable, reverse=True)
    best = [RECOMMENDED.index(pair) for pair in pairs if menu.speeds[pair.target].usable]
    assert best == sorted(best, reverse=True)
    rest = [menu.speeds[pair.target].drafted for pair in pairs if not menu.speeds[pair.target].usable]
    assert rest == sorted(rest, reverse=True)


def test_doctor_has_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounded, and none where the speed is not known."""
    monkeypatch.setattr("localspec.llama.host.total_memory", lambda: 64 * GIB)
    rows = {row["target"]: row for row in fitting((), LARGE)}
    for pair in RECOMMENDED:
        expected = expected_speed(pair.read, pair.drafter_size, LARGE)
        assert rows[pair.target]["tokens_per_s"] == pytest.approx(expected.plain, abs=0.01)
        assert rows[pair.target]["drafted_tokens_per_s"] == pytest.approx(expected.drafted, abs=0.01)
        assert rows[pair.target]["usable"] == (expected.drafted >= USABLE)
    assert [row["tokens_per_s"] for row in fitting(())] == [None] * len(RECOMMENDED)


def test_machine_is_measured_where_numpy_can() -> None:
    """A GPU with memory of its own is another machine; one that shares memory reads as the cores do."""
    found = measure_machine(())
    assert found is not None
    assert 1e8 < found.bandwidth < 1e13
    assert found.compute is not None
    assert 1e8 < found.compute < 1e15
    card, metal = (Device("0", "", "gpu", GIB, GIB, backend) for backend in ("CUDA", "Metal"))
    assert measure_machine((card,)) is None
    shared = measure_machine((metal,))
    assert shared is not None
    assert shared.compute is None


def test_rates_read_well() -> None:
    """Two digits."""
    assert [rate_text(rate) for rate in (0.42, 7.34, 12.6)] == ["0.4 tokens/s", "7.3 tokens/s", "13 tokens/s"]
    assert _speed_text(ExpectedSpeed(9.0, 12.0)) == "; about 9.0 tokens/s here, 12 tokens/s with drafts"
    assert _speed_text(ExpectedSpeed(1.0, 1.0)) == "; slow: about 1.0 tokens/s here"
    assert _speed_text(None) == ""
