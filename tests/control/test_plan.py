"""Laws of the draft of one step: its value is that of docs/control.md, and the best of all is taken."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localspec.control.base import Budget
from localspec.control.costs import Curve, LiveCurve
from localspec.control.plan import PYTHON_S, Choice, Plan
from localspec.draft.base import Draft, Guess

times = st.floats(1e-4, 0.1)
curves = st.lists(times, min_size=17, max_size=17).map(lambda some: Curve(tuple(range(1, 18)), tuple(some), 1e-7))
odds = st.lists(st.floats(0.0, 1.0), max_size=8)
budgets = st.tuples(st.integers(1, 4), st.integers(0, 12), st.integers(0, 5000))


def made(curve: Curve, budget: Budget, worth: float, caution: float, likely: list[float]) -> Plan:
    plan = Plan(LiveCurve(curve, 16), budget, worth, caution)
    for i, p in enumerate(likely[: budget.max_draft]):
        plan.add(Guess(100 + i, p / 2), f"drafter {i}", p)
    return plan


@given(curves, budgets, st.floats(1e-4, 0.05), st.floats(0.0, 0.1), odds, st.lists(st.floats(0.0, 1.0), max_size=4))
def test_the_best_draft_is_worth_most(
    curve: Curve, of: tuple[int, int, int], worth: float, caution: float, likely: list[float], more: list[float]
) -> None:
    """λ · Σ q − c, less caution for what a wide pass costs more, and less a decision. No draft is worth −c."""
    pending, most, cached = of
    plan = made(curve, Budget(pending, most, 99, cached), worth, caution, likely)
    reach = [*(math.prod(likely[: i + 1]) for i in range(len(plan.tokens))), *more]
    assert plan.q == pytest.approx(math.prod(likely[:most]))
    assert plan.full == (len(plan.tokens) == most)
    plain = curve.seconds(pending, cached)
    found = [(-plain, 0, pending)]
    wider = list(range(pending + 1, min(16, pending + most) + 1))
    for width in wider[: len(reach) + 1]:  # one is padded at most
        cost, taken = curve.seconds(width, cached), reach[: width - pending]
        found.append((worth * sum(taken) - cost - caution * (cost - plain) - PYTHON_S, len(taken), width))
    value, length, width = max(found, key=lambda one: one[0])
    best = plan.best(more)
    assert best.value == pytest.approx(value, abs=1e-12)
    ties = sum(value - one[0] < 1e-12 for one in found)
    assert ties > 1 or (best.length, best.width) == (length, width)


@given(curves, budgets, st.floats(1e-4, 0.05), odds, st.floats(0.01, 1.0), st.floats(0.01, 1.0), times, times)
def test_a_forecast_is_the_best_that_a_model_could_add(
    curve: Curve, of: tuple[int, int, int], worth: float, likely: list[float], first: float, rest: float, start: float,
    step: float,
) -> None:  # fmt: skip
    """Its first guess takes ``start``, others ``step``, each a moment of Python. Depths end where a guess is not worth
    its step."""
    pending, most, cached = of
    plan = made(curve, Budget(pending, most, 99, cached), worth, 0.0, likely)
    so_far, base, q = len(plan.tokens), sum(plan.reach), plan.q
    found = list[tuple[float, int, int, float]]()
    for depth in range(1, 17):
        width = pending + so_far + depth
        if width > 16 or so_far + depth > most:
            break
        gained = base + sum(q * first * rest**i for i in range(depth))
        seconds = curve.seconds(width, cached) + PYTHON_S + start + (depth - 1) * step + depth * PYTHON_S
        found.append((worth * gained - seconds, so_far + depth, width, seconds / (1 + gained)))
        if q * first * rest**depth * worth < step:
            break
    choice = plan.forecast(first, rest, start, step)
    if not found:
        assert choice == Choice(-math.inf, so_far, pending + so_far)
        return
    best = max(found)
    assert choice.value == pytest.approx(best[0], abs=1e-12)
    if sum(best[0] - one[0] < 1e-12 for one in found) == 1:
        assert (choice.length, choice.width) == best[1:3]
        assert choice.pace == pytest.approx(best[3])


def test_a_pass_beside_others_costs_what_it_adds_to_theirs() -> None:
    """Not what the curve says of a sequence alone."""
    plan = made(Curve((1, 17), (1.0, 17.0)), Budget(1, 4, 99, 0, 3, lambda n: 0.001 * n), 0.1, 0.0, [0.9, 0.9])
    best = plan.best()
    assert (best.length, best.value) == (2, pytest.approx(0.1 * (0.9 + 0.81) - 0.003 - PYTHON_S))
    forecast = plan.forecast(0.5, 0.5, 0.01, 0.01)
    assert forecast.value == pytest.approx(0.1 * (1.71 + 0.405 + 0.2025) - 0.005 - 0.02 - 3 * PYTHON_S)


def test_a_sequence_alone_at_the_start_of_a_text() -> None:
    """Has no cache, no others, no price but the curve's; a plan without guesses is certain and not cautious."""
    budget = Budget(1, 2, 3)
    assert (budget.cached, budget.others, budget.seconds) == (0, 0, None)
    plan = Plan(LiveCurve(Curve((1,), (1.0,)), 1), budget, 1.0)
    assert (plan.caution, plan.q, plan.tokens, plan.reach) == (0.0, 1.0, [], [])
    assert Choice(1.0, 0, 1).pace == math.inf


def test_a_guess_that_is_worth_its_step_is_looked_at() -> None:
    """Only one of less ends the forecast; here a wider pass is cheaper."""
    live = LiveCurve(Curve((1, 2, 3), (1.0, 1.0, 0.5)), 3)
    for step, length in ((0.25, 2), (0.26, 1)):
        choice = Plan(live, Budget(1, 4, 99), 1.0).forecast(0.5, 0.5, 0.1, step)
        assert choice.length == length


@given(st.integers(1, 4), st.integers(0, 5), st.integers(0, 4))
def test_a_draft_is_padded_with_its_last_token(pending: int, length: int, padding: int) -> None:
    """By the drafter of that token, with no confidence. Without a token nothing is padded."""
    plan = made(Curve((1,), (1.0,)), Budget(pending, 12, 99), 1.0, 0.0, [0.9] * 5)
    width = pending + length + padding
    draft = plan.draft(Choice(0.0, length, width))
    if length == 0:
        assert draft == Draft()
        return
    assert draft.padding == padding
    assert pending + len(draft.tokens) == len(draft.names) + pending == len(draft.confidences) + pending == width
    assert draft.tokens == (*range(100, 100 + length), *[99 + length] * padding)
    assert draft.names == (*(f"drafter {i}" for i in range(length)), *[f"drafter {length - 1}"] * padding)
    assert draft.confidences == (*[0.45] * length, *[0.0] * padding)
