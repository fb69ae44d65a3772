"""Laws of the parts of a decision: what lookups and grammars promise, and when a model is asked."""

from __future__ import annotations

import math
from typing import Any

import pytest

from localspec.control import controller
from localspec.control.base import Budget, FixedDepth
from localspec.control.controller import GRAMMAR
from localspec.control.costs import Curve, DraftCosts
from localspec.control.models import DraftingModel
from localspec.control.plan import Plan
from localspec.draft.base import Draft, Guess
from tests.helpers.listed import FREE, MILD, Grammar, Listed, control_of, plan_of, under
from tests.helpers.support import prefix_of


def test_the_lookup_that_promises_most_is_taken() -> None:
    """By the tokens that are expected of it; the first of two that promise as much; none of one without a guess."""
    control, prefix = control_of(), prefix_of([1, 2, 3])
    long, short = Listed("long", [(5, 0.8)] * 6), Listed("short", [(6, 0.95)] * 2)
    for order in ([long, short], [short, long]):
        assert control._free(prefix, order, plan_of(control)) == ("long", [Guess(5, 0.8)] * 6)
    one, same = Listed("one", [(5, 0.8)]), Listed("same", [(6, 0.8)])
    assert control._free(prefix, [one, same], plan_of(control))[0] == "one"
    assert control._free(prefix, [same, one], plan_of(control))[0] == "same"
    assert control._free(prefix, [], plan_of(control)) == ("", [])
    assert control._free(prefix, [Listed("empty", [])], plan_of(control)) == ("", [])
    # what is reached only after an unsure draft promises less: here the calibrations differ
    for _ in range(40):
        control._calibrations["long"].learn(0.8, False)
    assert control._free(prefix, [long, short], plan_of(control))[0] == "short"


def test_lookups_are_read_no_further_than_the_draft_may_go() -> None:
    """They follow the draft so far."""
    control, prefix = control_of(), prefix_of([1, 2, 3])
    drafter = Listed("ngram", [(5, 0.99)] * 20)
    assert len(control._free(prefix, [drafter], plan_of(control, 8, 0.9, 0.9, 0.9))[1]) == 5
    assert drafter.ahead == [(9, 9, 9)]
    assert drafter.asked == 5


def test_lookups_are_read_while_they_are_likely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guesses that are reached with at least that probability, that of the draft so far included."""
    control, prefix = control_of(), prefix_of([1, 2, 3])
    monkeypatch.setattr(controller, "UNLIKELY", 0.25)
    monkeypatch.setattr(control, "_probability", lambda name, guess: 0.5)
    for likely, expected in (((), 2), ((0.5,), 1), ((0.49,), 0)):
        drafter = Listed("ngram", [(5, 0.5)] * 20)
        assert len(control._free(prefix, [drafter], plan_of(control, 8, *likely))[1]) == expected
        assert drafter.asked == expected + 1


def test_a_grammar_s_demand_comes_before_lookups() -> None:
    """It is certain, and no longer than the draft may be. Other guesses end where the grammar does not allow them."""
    control, drafter = control_of(), Listed("ngram", [(5, 0.9)] * 4)
    assert control._free(under(Grammar([7, 8])), [drafter], plan_of(control)) == (
        GRAMMAR,
        [Guess(7, 1.0), Guess(8, 1.0)],
    )
    assert not drafter.asked
    assert control._free(under(Grammar([7] * 9)), [], plan_of(control, 3))[1] == [Guess(7, 1.0)] * 3
    plan = plan_of(control, 8, 0.99)
    found = control._free(under(Grammar(allows=3)), [Listed("ngram", [(5, 0.9)] * 6)], plan)
    assert found == ("ngram", [Guess(5, 0.9)] * 2)
    assert control._free(under(Grammar(allows=0)), [drafter], plan_of(control)) == ("", [])
    assert control._probability(GRAMMAR, Guess(1, 0.2)) == 1.0
    draft = control_of(FREE).draft(under(Grammar([7, 8])), [], Budget(1, 2, 99))
    assert (draft.tokens, draft.names) == ((7, 8), (GRAMMAR, GRAMMAR))


def test_a_fixed_depth_takes_the_first_drafter_with_a_guess() -> None:
    """As many as are asked for, allowed and legal; only the one that is named."""
    prefix, none, one, two = (
        prefix_of([1]),
        Listed("none", []),
        Listed("one", [(5, 0.9)] * 9),
        Listed("two", [(6, 0.9)] * 9),
    )
    assert FixedDepth(4).draft(prefix, [none, one, two], Budget(1, 9, 99)).tokens == (5,) * 4
    assert len(FixedDepth().draft(prefix, [one], Budget(1, 20, 99)).tokens) == 8
    assert FixedDepth(4).draft(prefix, [one, two], Budget(1, 1, 99)).tokens == (5,)
    assert FixedDepth(4, only="two").draft(prefix, [one, two], Budget(1, 9, 99)).names == ("two",) * 4
    assert FixedDepth(4).draft(under(Grammar(allows=2)), [one], Budget(1, 9, 99)).tokens == (5, 5)
    assert FixedDepth(4).draft(under(Grammar(allows=0)), [one, two], Budget(1, 9, 99)) == Draft()
    before = one.asked
    assert FixedDepth(4).draft(prefix, [one], Budget(1, 0, 99)) == Draft()
    assert FixedDepth(0).draft(prefix, [one], Budget(1, 9, 99)) == Draft()
    assert one.asked == before


# Models.


def invests(
    gain: float, late: float, *, forgone: float = 0.0, answer: float = 0.0, spent: float = 0.0, drafted: int = 0
) -> tuple[bool, float, float]:
    """Whether a model is asked, the gain forgone so far, and what trials took; plain decoding takes 1 s a token."""
    control = control_of(Curve((1, 64), (1.0, 2.0)), model=0.1)
    control._plain, control._answer_s, control._spent = 1.0, answer, spent
    model: DraftingModel = control.models["model"]
    model.forgone = forgone
    asked = control._invests(model, gain, late, plan_of(control, 8, *[0.5] * drafted))
    return asked, model.forgone, control._spent


def test_reading_is_paid_by_the_gain_forgone() -> None:
    """Once that and a plain step equal the time of reading. It counts for at most 15% of the answer."""
    assert invests(0.1, 0.0) == (True, 0.0, 0.0)
    assert invests(0.1, 1.0) == (True, 0.0, 0.0)
    assert invests(0.1, 1.5, forgone=0.5) == (True, 0.5, 0.0)
    assert invests(0.25, 1.75, forgone=0.5, answer=10.0) == (False, 0.75, 0.0)
    assert invests(0.25, 2.75, forgone=1.5, answer=10.0) == (False, 1.5, 0.0)
    assert invests(0.25, 1.75, forgone=0.5, answer=10.0, drafted=1) == (False, 0.5, 0.0)
    assert invests(0.25, 1.5, forgone=0.5, drafted=1) == (True, 0.5, 0.0)


def test_a_trial_takes_a_hundredth_of_the_answer() -> None:
    """What it loses and the time of reading; never after a draft token."""
    assert invests(-0.5, 0.0, answer=50.0) == (True, 0.0, 0.5)
    assert invests(-0.5, 0.25, answer=75.0) == (True, 0.0, 0.75)
    assert invests(-0.5, 0.0, answer=75.0, spent=0.25) == (True, 0.0, 0.75)
    assert invests(-0.5, 0.0, answer=49.0) == (False, 0.0, 0.0)
    assert invests(-0.5, 0.25, answer=74.0) == (False, 0.0, 0.0)
    assert invests(-0.5, 0.0, answer=74.0, spent=0.25) == (False, 0.0, 0.25)
    assert invests(-0.5, 0.0, answer=5000.0, drafted=1) == (False, 0.0, 0.0)
    assert invests(0.0, 0.0) == (True, 0.0, 0.0)
    assert invests(0.0, 0.5) == (False, 0.0, 0.0)
    assert invests(0.5, 2.5, answer=250.0) == (True, 0.5, 2.5)


def test_the_model_that_gains_most_is_asked() -> None:
    """Whichever comes first."""
    prefix, budget = prefix_of([1]), Budget(1, 8, 99)
    quick, slow = Listed("quick", [(5, 0.9)] * 8, 0.0005), Listed("slow", [(6, 0.9)] * 8, 0.002)
    for order in ([quick, slow], [slow, quick]):
        draft = control_of(MILD, quick=0.0005, slow=0.002).draft(prefix, order, budget)
        assert set(draft.names) == {"quick"}
    assert slow.asked == 0


def test_a_model_s_guesses_are_timed() -> None:
    """The first with the tokens that it read, the others as steps; an iterator that ends is no guess."""
    control = control_of(FREE, model=0.001)
    heard: list[tuple[int, float]] = []
    control.models["model"].observe = lambda lag, seconds: heard.append((lag, round(seconds, 9)))  # type: ignore[method-assign]
    drafter = Listed("model", [(5, 0.99)] * 3, 0.001, unread=1)
    draft = control.draft(prefix_of([1]), [drafter], Budget(1, 8, 99))
    assert draft.tokens[:3] == (5, 5, 5)
    assert draft.names[:3] == ("model",) * 3
    assert heard == [(1, 0.001), (0, 0.001), (0, 0.001)]
    assert control._draft_s == pytest.approx(0.003)
    assert drafter.ahead == [()]


def test_a_model_goes_on_where_a_lookup_ends() -> None:
    """And a lookup where a model's guess is found again; the draft says who made each token."""
    control = control_of(FREE, model=0.001)
    lookup, model = Listed("ngram", [(5, 0.97)] * 2), Listed("model", [(6, 0.97)] * 4, 0.001)
    for _ in range(40):
        for name in ("ngram", "model"):
            control._calibrations[name].learn(0.97, True)
    draft = control.draft(prefix_of([1]), [lookup, model], Budget(1, 4, 99))
    assert draft.names == ("ngram", "ngram", "model", "model")
    assert draft.tokens == (5, 5, 6, 6)
    assert model.ahead[-1] == (5, 5)


def test_the_pace_of_a_model_bounds_the_worth_of_a_token() -> None:
    """From below, where no lookup helps; never above plain decoding."""
    control = control_of(MILD, model=0.0005)
    prefix, drafter = prefix_of([1]), Listed("model", [(5, 0.9)] * 8, 0.0005)
    control._generated = 1
    control._lately = control._worth = 0.0001
    plan = Plan(control.verify, Budget(1, 8, 99), 0.0001)
    control._plain = 0.010
    control._model_that_pays(prefix, [drafter], plan, plan.best(), None)
    assert 0.0001 < plan.worth <= 0.010
    control.models["model"].pace = math.inf
    plan = Plan(control.verify, Budget(1, 8, 99), 0.0001)
    control._model_that_pays(prefix, [drafter], plan, plan.best(), None)
    assert plan.worth == pytest.approx(0.010)
    drafted = plan_of(control, 8, 0.9)
    control._model_that_pays(prefix, [drafter], drafted, drafted.best(), None)
    assert drafted.worth == 0.010


def test_what_must_be_read_anyway_is_part_of_the_draft() -> None:
    """The pending tokens and the draft so far; more is reading that pays later. It starts to draft only then."""
    first = Curve((1, 2, 3, 4, 8), (0.001, 0.002, 0.003, 0.004, 0.008))
    model = DraftingModel(DraftCosts(first, 0.0005))
    assert (model.forgone, model.pace) == (0.0, math.inf)
    plan = Plan(control_of().verify, Budget(2, 8, 99), 0.010)
    for lag, late in ((1, 0.0), (2, 0.0), (3, 0.001), (8, 0.006)):
        assert model.start(plan, 0.9, lag)[1] == pytest.approx(late)
    choice, _ = model.start(plan, 0.9, 8)
    forecast = plan.forecast(model.acceptance.first(0.9), model.acceptance.rest(0.9), 0.002, 0.0005)
    assert choice == forecast
    assert model.pace == forecast.pace
    plan.add(Guess(5, 0.9), "ngram", 0.9)
    assert model.start(plan, 0.9, 8)[1] == pytest.approx(0.005)
    assert model.pace == forecast.pace
    rest = model.acceptance.rest(0.9)
    assert model.next(plan, 0.9) == plan.forecast(rest, rest, 0.0005, 0.0005)
    model.forgone = 1.0
    model.begin()
    assert model.forgone == 0.0


@pytest.mark.parametrize("generated", [0, 1, 100])
def test_what_a_wide_pass_costs_more_counts_more_at_first(generated: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By one in the prior's verdicts and the tokens of the answer. A token is worth what it took lately."""
    seen: list[Plan] = []

    class Seen(Plan):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            seen.append(self)

    monkeypatch.setattr(controller, "Plan", Seen)
    control, budget = control_of(), Budget(1, 8, 99, 5, 2)
    control._generated, control._worth = generated, 0.003
    control.draft(prefix_of([1]), [], budget)
    share = MILD.seconds(3) / 3
    assert (seen[0].caution, seen[0].budget, seen[0].curve) == (1.0 / (14 + generated), budget, control.verify)
    assert seen[0].worth == pytest.approx(0.003 if generated else share)
    assert control._plain == pytest.approx(share)
