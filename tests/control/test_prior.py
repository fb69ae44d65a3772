"""Laws of costs before anything is measured: the shipped shape, at the scale of the passes so far."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localspec.control.prior import PairSize, _shipped, prior_costs

passes = st.dictionaries(st.integers(1, 80), st.floats(1e-4, 10.0), min_size=1, max_size=5)


@given(st.booleans(), passes)
def test_the_scale_of_a_width_is_that_of_the_nearest_pass(gpu: bool, measured: dict[int, float]) -> None:
    """The narrower of two that are as near; a measured width costs what was measured."""
    shape, costs = _shipped("gpu" if gpu else "cpu"), prior_costs(PairSize(10**9, gpu), measured)
    assert costs.verify.widths == tuple(sorted({1, *shape.widths, *measured}))
    assert not costs.drafters
    for width, seconds in zip(costs.verify.widths, costs.verify.times, strict=True):
        near = sorted(measured, key=lambda known: (abs(known - width), known))[0]
        assert seconds == pytest.approx(measured[near] * shape.seconds(width) / shape.seconds(near))
        assert seconds == measured.get(width, seconds)


@pytest.mark.parametrize(("gpu", "bandwidth"), [(False, 20e9), (True, 300e9)])
def test_before_the_first_pass_a_pass_reads_all_weights(gpu: bool, bandwidth: float) -> None:
    """At the bandwidth of the kind of machine; a file of no size costs a microsecond."""
    verify = prior_costs(PairSize(6 * 10**9, gpu), {}).verify
    assert verify.seconds(1) == pytest.approx(6e9 / bandwidth)
    shape = _shipped("gpu" if gpu else "cpu")
    assert verify.seconds(8) / verify.seconds(1) == pytest.approx(shape.seconds(8) / shape.seconds(1))
    assert prior_costs(PairSize(0, gpu), {}).verify.seconds(1) == pytest.approx(1e-6)


@given(passes)
def test_a_drafter_costs_its_share_of_the_weights(measured: dict[int, float]) -> None:
    """A model's passes have the target's shape. MTP reads one token at a time."""
    costs = prior_costs(PairSize(1000, False, "model", 250), measured)
    assert list(costs.drafters) == ["model"]
    model = costs.drafters["model"]
    assert model.step == pytest.approx(0.25 * costs.verify.seconds(1))
    for width in costs.verify.widths:
        assert model.first.seconds(width) == pytest.approx(0.25 * costs.verify.seconds(width))
    mtp = prior_costs(PairSize(1000, False, "mtp", 250), measured).drafters["mtp"]
    assert (mtp.first.widths, mtp.first.times) == ((1,), (mtp.step,))
    assert mtp.step == pytest.approx(0.25 * costs.verify.seconds(1))


def test_a_target_of_no_size_is_no_division_by_zero() -> None:
    """Its drafter's bytes are the share."""
    costs = prior_costs(PairSize(0, False, "model", 3), {1: 0.01})
    assert costs.drafters["model"].step == pytest.approx(0.03)


def test_the_kind_of_machine_decides_the_shape() -> None:
    """A CPU unless layers are on a GPU."""
    assert prior_costs(PairSize(10**9), {1: 1.0}).verify.seconds(8) > 3.0
    assert prior_costs(PairSize(10**9, True), {1: 1.0}).verify.seconds(8) < 1.5
