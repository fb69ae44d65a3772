"""Laws of the depths that a cost curve recommends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localspec.bench.tuning import best_depth, best_depths_dict, draft_seconds, expected_tokens, tune_lines
from localspec.control.costs import Costs, Curve, DraftCosts

MODEL = DraftCosts(Curve((1, 2, 4), (0.01, 0.011, 0.014)), 0.009)
MTP = DraftCosts(Curve((1,), (0.003,)), 0.003)
COSTS = Costs(Curve((1, 2, 3, 4, 8, 16), (0.031, 0.057, 0.082, 0.079, 0.153, 0.209)), {"model": MODEL, "mtp": MTP})


def test_expected_tokens() -> None:
    """(1 − aᵏ⁺¹)/(1 − a), and the depth plus one where every guess is right."""
    assert expected_tokens(0.8, 3) == pytest.approx((1 - 0.8**4) / 0.2)
    assert expected_tokens(1.0, 5) == 6
    assert expected_tokens(0.5, 0) == 1


def test_a_draft_model_reads_two_tokens_first_and_an_assistant_one() -> None:
    """Each further token takes one step; a lookup takes no time."""
    assert draft_seconds(COSTS, "model", 3) == pytest.approx(0.011 + 2 * 0.009)
    assert draft_seconds(COSTS, "mtp", 3) == pytest.approx(3 * 0.003)
    assert draft_seconds(COSTS, None, 3) == draft_seconds(COSTS, "model", 0) == 0


@given(st.sampled_from(["model", "mtp", None]), st.floats(0.05, 0.99), st.integers(1, 16))
def test_no_depth_is_better_than_the_best(name: str | None, acceptance: float, widest: int) -> None:
    """Plain decoding is never better either."""
    found = best_depth(COSTS, name, acceptance, widest)
    assert found.ratio >= 1
    assert found.depth < widest
    plain = 1 / COSTS.verify.seconds(1)
    for depth in range(1, widest):
        seconds = COSTS.verify.seconds(depth + 1) + draft_seconds(COSTS, name, depth)
        assert expected_tokens(acceptance, depth) / seconds <= found.ratio * plain * 1.000001


def test_a_group_of_four_rows_beats_three() -> None:
    """By the curve, where four cost less than three."""
    assert best_depth(COSTS, None, 0.9, 4).depth == 3


def test_steep_curves_are_not_worth_a_draft() -> None:
    """Flat ones are worth the longest."""
    steep, flat = Costs(Curve((1, 2), (1.0, 2.0))), Costs(Curve((1, 64), (1.0, 1.0)))
    assert best_depth(steep, None, 0.95, 64).depth == 0
    assert best_depth(flat, None, 0.95, 64).depth == 63


@pytest.mark.parametrize("width", [40, 80])
def test_tables_fit(width: int) -> None:
    """They name every drafter."""
    lines = tune_lines(COSTS, 16, width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "drafter model: 9.00 ms, 0.29 of a pass" in text
    assert "drafter mtp: 3.00 ms" in text
    assert all(f"{a}%" in text for a in (60, 80, 90, 95))
    assert set(best_depths_dict(COSTS, 16)) == {"model", "mtp", "ngram"}
