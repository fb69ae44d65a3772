"""Laws of the automatic control, on scripted drafters and made-up costs: it drafts where that pays, and only there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localspec.control.base import Budget
from localspec.control.controller import Controller
from localspec.control.costs import WIDTHS, Costs, Curve, DraftCosts
from localspec.control.estimates import AcceptanceForecast
from localspec.control.plan import Plan
from localspec.draft.base import Draft, Drafter, Guess, Prefix
from localspec.draft.model import ModelDrafter
from localspec.draft.ngram import NgramDrafter
from localspec.generation.loop import Rules
from localspec.params import SamplingParams
from localspec.testing import ScriptedContext, chain_logits
from tests.helpers.support import N_VOCAB, SAMPLINGS, decode, plain_tokens, prefill, prefix_of

#: Of a GPU, where a pass costs nearly the same at any width, and of a machine where every row costs the same.
FLAT = Curve(WIDTHS, tuple(0.010 + 0.0001 * n for n in WIDTHS))
STEEP = Curve(WIDTHS, tuple(0.010 * n for n in WIDTHS))
#: Four rows for the time of one and a half.
MILD = Curve(WIDTHS, tuple(0.010 + 0.0015 * (n - 1) for n in WIDTHS))


class Sure:
    """Guesses token after token with a given sureness; each takes ``step`` seconds."""

    def __init__(self, sure: float, step: float = 0.0, name: str = "ngram", count: int = 99) -> None:
        self.sure, self.step, self.name, self.count = sure, step, name, count
        self.free = step == 0.0
        self.decode_s = 0.0
        self.asked = 0

    def propose(self, prefix: Prefix, ahead: Sequence[int] = ()) -> Iterator[Guess]:
        for _ in range(self.count - len(ahead)):
            self.asked += 1
            self.decode_s += self.step
            yield Guess(1, self.sure)

    def lag(self, prefix: Prefix, ahead: Sequence[int] = ()) -> int:
        return 0 if self.free else 1

    def observe(self, prefix: Prefix) -> None: ...

    def close(self) -> None: ...


class Unread(Sure):
    """One that has the whole prompt to read, until it is asked."""

    def lag(self, prefix: Prefix, ahead: Sequence[int] = ()) -> int:
        return 1 if self.asked else 64


def costs(verify: Curve, step: float = 0.0) -> Costs:
    return Costs(verify, {"model": DraftCosts(Curve((1,), (step,)), step)} if step else {})


def settled(control: Controller, drafter: Sure, accepts: Callable[[int], int], steps: int = 60) -> list[int]:
    """Lengths of drafts of a run in which ``accepts`` of each are right, at the costs that the control was given."""
    lengths, prefix = [], prefix_of([1, 2, 3])
    for _ in range(steps):
        budget = Budget(1, 63, 1000)
        draft = control.draft(prefix, [drafter], budget)
        lengths.append(len(draft.tokens))
        accepted = accepts(len(draft.tokens))
        control.learn(draft, accepted, budget, control.verify.seconds(1 + len(draft.tokens)))
        prefix.tokens.extend([1] * accepted + [1 if accepts(1) else 2])
    return lengths


def test_free_guesses_that_come_true_are_verified_wide_where_that_is_cheap() -> None:
    """On a flat curve a sure lookup is followed as far as it goes."""
    lengths = settled(Controller(costs(FLAT), 64), Sure(0.95), lambda n: n)
    assert min(lengths[10:]) >= 31


def test_guesses_that_never_come_true_end_in_plain_decoding() -> None:
    """However sure their drafter is. Where a row costs next to nothing some are still tried, for next to nothing."""
    assert set(settled(Controller(costs(STEEP), 64), Sure(0.99), lambda n: 0)) == {0}
    lengths = settled(Controller(costs(FLAT), 64), Sure(0.99), lambda n: 0)
    assert sum(FLAT.seconds(1 + n) for n in lengths[20:]) < 1.05 * 40 * FLAT.seconds(1)


def test_a_pass_that_costs_as_much_as_its_rows_is_never_wide() -> None:
    """There nothing is won even by guesses that are right."""
    assert set(settled(Controller(costs(STEEP), 64), Sure(0.9), lambda n: n)) == {0}


def test_a_change_of_text_is_followed_within_a_few_steps() -> None:
    """From lookups that fail to lookups that hold, and back."""
    control, drafter = Controller(costs(Curve(WIDTHS, tuple(0.010 + 0.004 * (n - 1) for n in WIDTHS))), 64), Sure(0.8)
    settled(control, drafter, lambda n: 0, 30)
    again = settled(control, drafter, lambda n: n, 30)
    assert min(again[10:]) >= 1
    back = settled(control, drafter, lambda n: 0, 30)
    assert sum(back[-10:]) <= 20


@pytest.mark.parametrize(("step", "pays"), [(0.001, True), (0.020, False)])
def test_a_model_drafts_where_its_steps_are_cheap(step: float, pays: bool) -> None:
    """And is left alone where they cost more than the target's."""
    lengths = settled(Controller(costs(FLAT, step), 64), Sure(0.9, step, "model"), lambda n: n)
    assert (sum(n > 0 for n in lengths[20:]) > 30) == pays


def test_a_model_that_does_not_pay_is_tried_for_little_of_the_time() -> None:
    """Under one in fifty seconds."""
    step = 0.009
    drafter = Sure(0.9, step, "model")
    control = Controller(costs(Curve(WIDTHS, tuple(0.010 + 0.008 * (n - 1) for n in WIDTHS)), step), 64)
    total, prefix = 0.0, prefix_of([1, 2, 3])
    for _ in range(3000):
        budget, before = Budget(1, 63, 1000), drafter.decode_s
        draft = control.draft(prefix, [drafter], budget)
        seconds = control.verify.seconds(1 + len(draft.tokens))
        control.learn(draft, 0, budget, seconds)
        total += seconds + drafter.decode_s - before
    assert 0.0 < total / (3000 * 0.010) - 1.0 < 0.02
    assert drafter.asked > 0


def asked_after(sure: float, reads: float = 0.1, pair: Controller | None = None) -> int:
    """Steps until a model that must first read for ``reads`` seconds is asked, the target being ``sure``; 60: never."""
    slow = Costs(MILD, {"model": DraftCosts(Curve((1, 2, 64), (0.002, 0.002, reads)), 0.002)})
    control, drafter, prefix = pair or Controller(slow, 64), Unread(0.9, 0.002, "model"), prefix_of([1, 2, 3])
    control.begin()
    for step in range(60):
        budget = Budget(1, 63, 1000)
        draft = control.draft(prefix, [drafter], budget)
        if drafter.asked:
            return step
        control.learn(draft, 0, budget, 0.010, lambda: sure)
        prefix.tokens.append(2)
    return 60


def test_how_sure_the_target_is_says_whether_a_model_pays() -> None:
    """A model is right about as often. So it is asked soon in an easy text, never in a hard one, and not at once."""
    assert 0 < asked_after(0.97, reads=0.05) < 40
    assert asked_after(0.4, reads=0.05) == 60
    assert asked_after(0.97, reads=5.0) == 60  # what it costs to read is never paid back


def test_an_answer_that_may_end_soon_pays_for_no_long_reading() -> None:
    """However good the model: at most 15% of what the answer took so far, and a step."""
    for reads in (0.02, 0.04, 0.08):
        step = asked_after(0.99, reads)
        assert step == 60 or reads - 0.002 <= 0.15 * step * 0.010 + 0.011  # the last two tokens are read in any case


def test_a_model_that_is_worse_than_the_target_s_word_is_left_alone() -> None:
    """What it was off counts in the next answer, where the target is as sure again."""
    costly = Costs(MILD, {"model": DraftCosts(Curve((1, 64), (0.002, 0.05)), 0.002)})
    new, pair = Controller(costly, 64), Controller(costly, 64)
    for _ in range(30):
        pair.models["model"].acceptance.learn(False, 0.0, 0.97)
    assert asked_after(0.97, pair=new) < 40
    assert asked_after(0.97, pair=pair) == 60


def test_what_an_answer_showed_of_a_model_fades_and_what_its_pair_is_off_stays() -> None:
    """So it is tried again later in an answer, and in the next one, with what all of them taught."""
    new, outlook = AcceptanceForecast(), AcceptanceForecast()
    for _ in range(20):
        outlook.learn(False, 0.0, 0.9)
    low = outlook.first(0.9)
    assert low < 0.2
    for _ in range(200):
        outlook.fade()
    faded = outlook.first(0.9)
    outlook.begin()
    assert low + 0.1 < faded < outlook.first(0.9) + 0.05 < new.first(0.9)


def test_the_target_s_word_is_asked_for_only_where_a_model_needs_it() -> None:
    """It takes time: not with lookups alone, not for steps that a lookup drafted."""

    def refused() -> float:
        raise AssertionError("asked for nothing")

    lookups = Controller(costs(FLAT), 64)
    lookups.learn(Draft(), 0, Budget(1, 63, 99), 0.010, refused)
    both = Controller(costs(FLAT, 0.001), 64)
    both.learn(Draft.from_guesses("ngram", [Guess(1, 0.9)]), 1, Budget(1, 63, 99), 0.010, refused)
    with pytest.raises(AssertionError, match="asked for nothing"):
        both.learn(Draft(), 0, Budget(1, 63, 99), 0.010, refused)


def test_luck_does_not_put_a_model_off() -> None:
    """After a copy that cost next to nothing a token the cheaper one is left: plain decoding or the model."""
    control = Controller(costs(MILD, 0.002), 64)
    model = Sure(0.95, 0.002, "model")
    settled(control, model, lambda n: n, 20)
    control._worth = control._lately = 0.001
    draft = control.draft(prefix_of([1, 2, 3]), [model], Budget(1, 63, 1000))
    assert len(draft.tokens) > 0


def test_a_short_answer_does_not_pay_for_a_trial() -> None:
    """However much time was saved up in the answers before: a model that reads the prompt first is not asked in it."""
    slow = Costs(STEEP, {"model": DraftCosts(Curve((1, 100), (0.009, 0.3)), 0.009)})
    control, drafter = Controller(slow, 64), Sure(0.9, 0.009, "model")
    control._spare = 100.0
    for _ in range(20):
        control.begin()
        settled(control, drafter, lambda n: 0, 8)
    assert drafter.asked == 0


def test_where_a_pass_takes_next_to_nothing_it_thinks_seldom() -> None:
    """A lookup takes Python as long as a third of a small model's pass. What the steps between took is counted."""
    control, drafter = Controller(costs(STEEP.scaled(0.02)), 64), Sure(0.04)
    settled(control, drafter, lambda n: 0, 320)
    assert 320 / 40 < drafter.asked < 320 / 20
    assert control._learned[0] > 280
    assert control._learned[1] == pytest.approx(control._learned[0] * 0.0002)
    slow, drafter = Controller(costs(STEEP), 64), Sure(0.04)
    settled(slow, drafter, lambda n: 0, 320)
    assert drafter.asked == 320


def test_a_new_answer_is_another_text() -> None:
    """Guesses that failed in the answer before are believed in the next one as they are at first."""
    curve = Curve(WIDTHS, tuple(0.010 + 0.004 * (n - 1) for n in WIDTHS))
    new = settled(Controller(costs(curve), 64), Sure(0.8), lambda n: n, 6)
    control = Controller(costs(curve), 64)
    settled(control, Sure(0.8), lambda n: 0, 40)
    control.begin()
    assert settled(control, Sure(0.8), lambda n: n, 6) == new


def test_a_draft_ends_where_the_next_token_no_longer_pays() -> None:
    """The model is not asked for guesses that would not be verified."""
    drafter = Sure(0.9, 0.002, "model")
    control = Controller(costs(Curve(WIDTHS, tuple(0.010 + 0.001 * (n - 1) for n in WIDTHS)), 0.002), 64)
    settled(control, drafter, lambda n: n // 2, 40)
    before = drafter.asked
    lengths = settled(control, drafter, lambda n: n // 2, 20)
    assert drafter.asked - before <= sum(lengths) + 20


def test_a_cheaper_wider_pass_is_taken() -> None:
    """Kernels work in groups of four rows: three are padded to four, and the padding is nobody's guess."""
    verify = Curve((1, 2, 3, 4), (1.0, 1.8, 2.4, 2.0))
    draft = Controller(costs(verify), 4).draft(prefix_of([1]), [Sure(0.99, count=2)], Budget(1, 3, 9))
    assert (len(draft.tokens), draft.padding) == (3, 1)
    plan = Plan(Controller(costs(verify), 4).verify, Budget(1, 3, 9), worth=1.0)
    plan.add(Guess(7, 0.99), "ngram", 0.99)
    plan.add(Guess(8, 0.99), "ngram", 0.99)
    assert plan.best().width == 4


def test_a_long_context_makes_wide_passes_dear() -> None:
    """A draft that is wide in a short context is narrow where each row looks at many tokens."""
    verify = Curve(WIDTHS, tuple(0.020 + 0.001 * (n - 1) for n in WIDTHS), cell=2e-6)
    lengths = [
        len(Controller(costs(verify), 64).draft(prefix_of([1]), [Sure(0.9)], Budget(1, 63, 999, cached)).tokens)
        for cached in (100, 8000)
    ]
    assert lengths[0] > 2 * lengths[1]


def test_the_first_draft_of_an_answer_is_a_cautious_one() -> None:
    """Of two that are worth nearly the same the narrower one is taken, until the text is known."""
    widths = list[list[int]]()
    for sure in (0.7, 0.8, 0.9, 0.93, 0.95, 0.97):
        lengths = []
        for generated in (0, 500):
            control = Controller(costs(MILD), 64)
            control._generated = generated
            lengths.append(len(control.draft(prefix_of([1]), [Sure(sure)], Budget(1, 63, 999)).tokens))
        assert lengths[0] <= lengths[1]
        widths.append(lengths)
    assert any(first < later for first, later in widths)


@given(
    st.sampled_from(SAMPLINGS), st.integers(0, 30), st.integers(1, 63), st.sampled_from([FLAT, STEEP]),
    st.floats(1e-4, 0.05), st.booleans(),
)  # fmt: skip
def test_same_tokens_whatever_it_decides(
    params: SamplingParams, seed: int, most: int, verify: Curve, step: float, right: bool
) -> None:
    """Lookup, model and both in turn; the text is that of decoding a token at a time."""
    logits = chain_logits(N_VOCAB, seed, scale=3.0)
    target, prefix = ScriptedContext(logits, N_VOCAB), prefix_of([1, 2, 3, 1, 2], params)
    own = logits if right else chain_logits(N_VOCAB, 77)
    drafters: list[Drafter] = [NgramDrafter(), ModelDrafter(ScriptedContext(own, N_VOCAB), 512, N_VOCAB)]
    rows, _ = prefill(target, prefix, 512)
    rules = Rules(lambda _: False, lambda: 1000, Controller(costs(verify, step), 64), draft_max=most)
    found: list[int] = []
    for made in decode(target, prefix, rows, drafters, rules):
        found.extend(made.tokens)
        assert len(made.draft.tokens) <= most
        if len(found) > 40:
            break
    assert found == plain_tokens(logits, [1, 2, 3, 1, 2], params, len(found))


def test_no_room_no_draft() -> None:
    """The last token of an answer is decoded alone, and nobody is asked."""
    drafter = Sure(0.99)
    assert Controller(costs(FLAT), 64).draft(prefix_of([1]), [drafter], Budget(1, 0, 1)).tokens == ()
    assert drafter.asked == 0
