"""Laws of drafting under load: rows of others make a draft cheaper or dearer, and a sequence alone drafts as before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from localspec.control.base import Budget
from localspec.control.controller import Controller
from localspec.control.costs import Costs, Curve, LiveCurve
from localspec.control.plan import Plan
from localspec.draft.base import Draft, Guess
from localspec.generation.fuse import Limits, Price
from localspec.testing import ScriptedDrafter
from tests.helpers.support import prefix_of

WIDTHS = (1, 2, 4, 8, 16, 32, 64)
#: Two cores, where every row costs, and a GPU, where rows cost little.
CPU = Curve(WIDTHS, (1.0, 1.9, 3.6, 7.0, 13.8, 27.0, 54.0))
GPU = Curve(WIDTHS, (1.0, 1.01, 1.02, 1.04, 1.08, 1.16, 1.4))


def length(curve: Curve, others: int, likely: float = 0.8) -> int:
    """Draft tokens of a step with eight guesses that are accepted with the probability ``likely`` each."""
    live = LiveCurve(curve, 32)
    price = Price(others + 1, others + 1, live.seconds, Limits(64)) if others else None
    plan = Plan(live, Budget(1, 8, 100, 0, others, price), live.share(1, 0, others))
    for _ in range(8):
        plan.add(Guess(5, likely), "ngram", likely)
    return plan.best().length


def test_what_a_row_displaces_decides() -> None:
    """On a GPU a sequence drafts as far beside three others as alone; beside sixteen as far as a pass of all has rows.

    On two cores nothing is worth a row that another sequence could have, unless it is nearly sure.
    """
    assert length(GPU, 0) == length(GPU, 3) == 7
    assert length(GPU, 16) == 3
    assert length(CPU, 0, likely=0.999) > 0
    assert length(CPU, 3) == length(CPU, 8) == 0


@given(st.sampled_from([CPU, GPU]), st.integers(1, 16), st.integers(1, 16), st.integers(0, 4000))
def test_shares_add_up(curve: Curve, n: int, others: int, cached: int) -> None:
    """To the cost of the pass."""
    live = LiveCurve(curve, 32)
    whole = live.seconds(n + others, cached)
    assert abs(live.share(n, cached, others) + live.share(others, cached, n) - whole) < 1e-9
    assert live.share(n, cached, 0) == live.seconds(n, cached)


def test_a_pass_is_learned_once_and_whole() -> None:
    """The curve learns what the whole pass takes for all its rows, as much as from the pass of a sequence alone."""
    control, alone = Controller(Costs(CPU), 32), Controller(Costs(CPU), 32)
    several, before = [control, *(control.another() for _ in range(7))], control.verify.seconds(8)
    draft = Draft((1,) * 7, ("ngram",) * 7, (0.5,) * 7)
    for i in range(60):
        for one in several:
            one.learn(Draft(), 0, Budget(1, 0, 100, 0, 7), 14.0)
        alone.learn(draft, 7, Budget(1, 7, 100), 14.0)
        if i == 0:
            assert control.verify.seconds(8) - before < 1.3 * (alone.verify.seconds(8) - before)
    assert abs(control.verify.seconds(8) - 14.0) < abs(before - 14.0) / 10


def test_controls_of_several_sequences_share_what_passes_cost() -> None:
    """And nothing of their texts."""
    control = Controller(Costs(CPU), 32)
    other = control.another()
    for _ in range(60):
        other.learn(Draft(), 0, Budget(1, 0, 100), 3.0)
    assert control.verify.seconds(1) == other.verify.seconds(1) > 2.0
    prefix, budget = prefix_of([1, 2, 3]), Budget(1, 8, 100)
    wrong = ScriptedDrafter(lambda tokens: [5] * 8)
    for _ in range(30):
        other.learn(other.draft(prefix, [wrong], budget), 0, budget, 1.0)
    fresh = Controller(control.costs, 32)
    fresh.verify = control.verify
    assert control.draft(prefix, [wrong], budget) == fresh.draft(prefix, [wrong], budget)
