"""Laws of what control learns: of a pass, of its guesses, and of the steps without a draft."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localspec.control import controller
from localspec.control.base import Budget
from localspec.control.controller import GRAMMAR
from localspec.control.costs import Costs, Curve, DraftCosts
from localspec.control.estimates import Calibration
from localspec.draft.base import Draft, Guess
from tests.helpers.listed import FREE, MILD, Listed, control_of
from tests.helpers.support import prefix_of


class Recorder:
    """Acceptance that notes what is learned."""

    def __init__(self) -> None:
        self.learned: list[tuple[bool, float, float]] = []
        self.faded = 0

    def learn(self, later: bool, right: float, confidence: float) -> None:
        self.learned.append((later, right, confidence))

    def fade(self) -> None:
        self.faded += 1


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0.001, 0.1)), min_size=1, max_size=20))
def test_the_worth_of_a_token_is_what_tokens_took_lately(passes: list[tuple[int, float]]) -> None:
    """A mean that forgets at e^(-1/17) a token, from plain decoding on, and never more than that."""
    control = control_of()
    for _ in range(2):
        control.begin()
        control.draft(prefix_of([1]), [], Budget(1, 8, 99))
        lately = plain = control.verify.seconds(1)
        assert (control._lately, control._worth) == (plain, plain)
        for accepted, seconds in passes:
            control.learn(
                Draft((5,) * accepted, ("ngram",) * accepted, (0.5,) * accepted), accepted, Budget(1, 8, 99), seconds
            )
            lately += (1 - math.exp(-(accepted + 1) / 17)) * (seconds / (accepted + 1) - lately)
            assert control._lately == pytest.approx(lately)
            assert control._worth == pytest.approx(min(lately, plain))


def test_an_answer_takes_its_share_of_a_pass_and_the_time_of_its_drafts() -> None:
    """Four rows of twelve are a third of it."""
    control = control_of(FREE, model=0.0001)
    drafter = Listed("model", [(5, 0.99)] * 3, 0.0001)
    budget = Budget(1, 3, 99, 0, 8)
    draft = control.draft(prefix_of([1]), [drafter], budget)
    assert len(draft.tokens) == 3
    control.learn(draft, 3, budget, 0.012)
    assert control._answer_s == pytest.approx(0.012 * 4 / 12 + 0.0003)
    assert control._generated == 4
    control.draft(prefix_of([1]), [], budget)
    control.learn(Draft(), 0, Budget(2, 3, 99), 0.02)
    assert control._answer_s == pytest.approx(0.0043 + 0.02)
    assert control._generated == 5


def test_guesses_are_judged_up_to_the_first_wrong_one() -> None:
    """Padding is nobody's guess, a grammar's demand is no opinion, and a guess is a later one after its own alone."""
    control = control_of(model=0.001, mtp=0.001)
    heard: list[tuple[str, float, bool]] = []

    class Heard(Calibration):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def learn(self, confidence: float, right: bool) -> None:
            heard.append((self.name, confidence, right))

    names = ("model", "model", "ngram", "model", GRAMMAR, "mtp", "mtp", "mtp")
    for name in names:
        control._calibrations[name] = Heard(name)
    model, mtp = Recorder(), Recorder()
    control.models["model"].acceptance, control.models["mtp"].acceptance = model, mtp  # type: ignore[assignment]
    sure = tuple(i / 10 for i in range(8))
    control.learn(Draft(tuple(range(8)), names, sure, 1), 6, Budget(1, 9, 99), 0.01)
    assert heard == [
        ("model", 0.0, True), ("model", 0.1, True), ("ngram", 0.2, True), ("model", 0.3, True), ("mtp", 0.5, True),
        ("mtp", 0.6, False),
    ]  # fmt: skip
    mean = control._confidence
    assert model.learned == [(False, 1.0, mean), (True, 1.0, mean), (False, 1.0, mean)]
    assert mtp.learned == [(False, 1.0, mean), (True, 0.0, mean)]
    assert (model.faded, mtp.faded) == (0, 1)
    heard.clear()
    control.learn(Draft((1, 2, 3, 3), ("mtp",) * 4, sure[:4], 1), 3, Budget(1, 9, 99), 0.01)
    control.learn(Draft((1, 2, 3), ("mtp",) * 3, sure[:3]), 0, Budget(1, 9, 99), 0.01)
    assert [right for _, _, right in heard] == [True, True, True, False]
    assert (model.faded, mtp.faded) == (2, 1)


@pytest.mark.parametrize(("names", "asked"), [((), 1), (("model",), 1), (("ngram",), 0), ((GRAMMAR, "model"), 0)])
def test_the_target_s_confidence_is_learned_where_no_lookup_drafted(names: tuple[str, ...], asked: int) -> None:
    """It corrects the constant that it begins with."""
    control, calls = control_of(model=0.001), list[int]()

    def confidence() -> float:
        calls.append(1)
        return 0.1

    assert control._confidence == pytest.approx(controller.CONFIDENCE)
    draft = Draft((5,) * len(names), names, (0.5,) * len(names))
    control.learn(draft, 0, Budget(1, 9, 99), 0.01, confidence)
    assert len(calls) == asked
    assert (control._confidence < controller.CONFIDENCE - 0.01) == bool(asked)
    control.begin()
    assert control._confidence == pytest.approx(controller.CONFIDENCE)


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("model", [True, False])
def test_a_guess_that_was_not_verified_is_judged_by_the_token_that_came(right: bool, model: bool) -> None:
    """Once, and only if a token came. A lookup's and a model's alike."""
    steep = Curve((1, 2, 4, 8), (0.010, 0.020, 0.040, 0.080))
    control = control_of(steep, model=0.0001)
    control._answer_s, control._generated = 100.0, 1  # enough for a trial
    drafter = Listed("model", [(7, 0.6)] * 8, 0.0001) if model else Listed("ngram", [(7, 0.6)] * 8)
    prefix = prefix_of([1, 2])
    assert control.draft(prefix, [drafter], Budget(1, 8, 99)).tokens == ()
    before = control._calibrations[drafter.name].probability(0.6)
    control._score_unverified(prefix)
    assert control._calibrations[drafter.name].probability(0.6) == before
    assert control.draft(prefix, [drafter], Budget(1, 8, 99)).tokens == ()
    prefix.tokens += [7 if right else 8, 7]
    control._score_unverified(prefix)
    after = control._calibrations[drafter.name].probability(0.6)
    assert (after > before) == right
    assert after != before
    control._score_unverified(prefix)
    assert control._calibrations[drafter.name].probability(0.6) == after


def test_after_a_step_without_a_draft_it_rests() -> None:
    """60 µs are a hundredth of 31 passes of 0.19 ms. What they took is learned once, by the mean and by the curve."""
    control, drafter = control_of(Curve((1, 2, 4), (0.00019, 0.00038, 0.00076))), Listed("ngram", [(5, 0.5)] * 8)
    asked = []
    for _ in range(65):
        control.draft(prefix_of([1]), [drafter], Budget(1, 3, 99))
        asked.append(drafter.asked)
        control.learn(Draft(), 0, Budget(1, 3, 99), 0.00019)
    changes = [i for i, (a, b) in enumerate(zip([0, *asked], asked, strict=False)) if a != b]
    assert changes == [0, 32, 64]
    assert control.verify.seconds(1) == pytest.approx(0.00019)
    control.draft(prefix_of([1]), [drafter], Budget(1, 3, 99))
    control.learn(Draft(), 0, Budget(1, 3, 99), 0.1)  # while it rests
    assert control.verify.seconds(1) == pytest.approx(0.00019)
    control.begin()
    before = drafter.asked
    control.draft(prefix_of([1]), [drafter], Budget(1, 3, 99))
    assert drafter.asked > before


def test_costs_are_those_of_now() -> None:
    """Of the target and of its drafters, as passes moved them."""
    control = control_of(model=0.001)
    assert control.costs == Costs(MILD, {"model": DraftCosts(Curve((1,), (0.001,)), 0.001)})
    control.learn(Draft(), 0, Budget(1, 8, 99), 0.011)
    control.models["model"].observe(1, 0.0011)
    control.models["model"].observe(0, 0.0012)
    now = control.costs
    assert now.verify.times[0] == pytest.approx(0.010 * 1.1**0.2)
    assert now.drafters["model"].first.times[0] == pytest.approx(0.001 * 1.1**0.2)
    assert now.drafters["model"].step == pytest.approx(0.001 * 1.2**0.2)


def test_another_sequence_has_its_own_answer() -> None:
    """As wide, with the same drafters, and the same curve of passes."""
    control = control_of(model=0.001)
    other = control.another()
    assert other.verify is control.verify
    assert other._widest == 64
    assert other.models.keys() == control.models.keys()
    assert other.models["model"] is not control.models["model"]


def test_a_new_answer_begins_anew() -> None:
    """With nothing generated, spent, forgone or pending; what was learned of the pair and of passes stays."""
    control, fresh = control_of(model=0.001), control_of(model=0.001)
    model = control.models["model"]
    for _ in range(20):
        model.acceptance.learn(False, 0.0, 0.9)
        control._calibrations["ngram"].learn(0.9, False)
        control._target.learn(0.75, 0.0)
    pair = model.acceptance._pair[0].shift
    model.forgone, control._spent, control._draft_s, control._rest, control._resting = 1.0, 1.0, 1.0, 9, True
    control._generated, control._answer_s, control._learned = 50, 2.0, (50, 2.0)
    control._unverified = (1, "ngram", Guess(5, 0.5))
    control.begin()
    assert model.forgone == 0.0
    assert model.acceptance._answer[0].shift == 0.0
    assert model.acceptance._pair[0].shift == pair < -0.7
    assert control._calibrations["ngram"].probability(0.9) == fresh._calibrations["ngram"].probability(0.9)
    for name in (
        "_generated", "_answer_s", "_learned", "_draft_s", "_spent", "_rest", "_resting", "_unverified", "_confidence"
    ):  # fmt: skip
        assert getattr(control, name) == getattr(fresh, name)
    assert (control._generated, control._answer_s, control._learned) == (0, 0.0, (0, 0.0))
    assert (control._draft_s, control._spent, control._rest, control._resting) == (0.0, 0.0, 0, False)
