"""Automatic control: chooses the drafters and the draft length of each step. It reads no model and no clock.

Each step verifies the draft that is worth most, given what passes cost here (:mod:`.costs`) and how often such guesses
are accepted (:mod:`.estimates`). Lookups and a grammar's only choice cost nothing and are always asked. A drafting
model is asked for one guess after another while the next is expected to pay. docs/control.md explains the rules.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate, islice
from operator import mul

from localspec.control.base import Budget, LazyConfidence, legal_length
from localspec.control.costs import Costs, LiveCurve
from localspec.control.estimates import MEMORY, WEIGHT, Beta, Calibration
from localspec.control.models import AT_RISK, EXPLORE, Asked, DraftingModel
from localspec.control.plan import PYTHON_S, Choice, Plan
from localspec.draft.base import Draft, Drafter, Guess, Prefix

#: Free guesses are looked at while they are reached with at least this probability.
UNLIKELY = 0.05
#: Mean confidence of a target in its tokens, as long as little is known of the answer.
CONFIDENCE = 0.75
#: Name of tokens that a grammar demands.
GRAMMAR = "grammar"
_NOTHING = Draft()


class Controller:
    """Control by measured ``costs``; passes are at most ``widest`` wide. One for all generations of an engine."""

    def __init__(self, costs: Costs, widest: int) -> None:
        self.verify, self._widest = LiveCurve(costs.verify, widest), widest
        self._checkpoint = costs.checkpoint
        self.models = {name: DraftingModel(one) for name, one in costs.drafters.items()}
        self._calibrations: defaultdict[str, Calibration] = defaultdict(Calibration)
        self._plain = self._worth = self._lately = self.verify.seconds(1)
        self.begin()

    @property
    def costs(self) -> Costs:
        """Costs as they are now."""
        drafters = {name: model.costs for name, model in self.models.items()}
        return Costs(self.verify.now(), drafters, checkpoint=self._checkpoint)

    def begin(self) -> None:
        """Reset the statistics of one answer."""
        self._generated, self._answer_s = 0, 0.0
        self._learned = (0, 0.0)  # tokens and seconds of the answer that were learned from
        self._draft_s = self._spent = 0.0
        self._rest, self._resting = 0, False
        self._unverified: tuple[int, str, Guess] | None = None
        self._calibrations.clear()
        self._target = Beta(caution=0.0)
        for model in self.models.values():
            model.begin()

    def another(self) -> Controller:
        """Return a control for another sequence at the same time. Both learn what passes cost, each its own text."""
        made = Controller(self.costs, self._widest)
        made.verify = self.verify
        return made

    @property
    def _confidence(self) -> float:
        """Mean confidence of the target in the last tokens."""
        return self._target.corrected(CONFIDENCE)

    def draft(self, prefix: Prefix, drafters: Sequence[Drafter], budget: Budget) -> Draft:
        self._draft_s = 0.0
        self._resting = self._rest > 0
        if self._resting:
            self._rest -= 1
            return _NOTHING
        self._plain = self.verify.share(1, budget.cached, budget.others)
        if not self._generated:
            self._lately = self._worth = self._plain
        self._score_unverified(prefix)
        plan = Plan(self.verify, budget, self._worth, 1.0 / (WEIGHT + self._generated), self._checkpoint)
        self._fill(plan, prefix, drafters)
        draft = plan.draft(plan.best())
        if not draft.tokens and plan.tokens:
            self._unverified = (len(prefix.tokens), plan.names[0], Guess(plan.tokens[0], plan.confidences[0]))
        if not draft.tokens:  # where a pass takes next to nothing, deciding again at once would cost too much
            self._rest = int(PYTHON_S / (EXPLORE * self._plain))
        return draft

    def _fill(self, plan: Plan, prefix: Prefix, drafters: Sequence[Drafter]) -> None:
        """Add guesses to ``plan`` while they pay."""
        free = [drafter for drafter in drafters if drafter.free]
        models = [drafter for drafter in drafters if drafter.name in self.models]
        asked: Asked | None = None
        while not plan.full:
            name, guesses = self._free(prefix, free, plan)
            reach = list(accumulate((self._probability(name, guess) for guess in guesses), mul, initial=plan.q))[1:]
            choice = plan.best(reach)
            asked = self._model_that_pays(prefix, models, plan, choice, asked)
            if asked is not None:
                if not self._ask(asked, plan):
                    models.remove(asked.drafter)
                continue
            take = choice.length - len(plan.tokens)
            if take <= 0:
                if guesses and not plan.tokens:
                    self._unverified = (len(prefix.tokens), name, guesses[0])
                return
            for guess in guesses[:take]:
                plan.add(guess, name, self._probability(name, guess))

    def _score_unverified(self, prefix: Prefix) -> None:
        """Score the guess of a step without a draft against the token that came."""
        unverified, self._unverified = self._unverified, None
        if unverified is not None and len(prefix.tokens) > unverified[0]:
            at, name, guess = unverified
            self._score(name, guess.confidence, prefix.tokens[at] == guess.token)

    def _score(self, name: str, confidence: float, right: bool, *, later: bool = False) -> None:
        """Learn whether a guess was ``right``; ``later``: the same drafter made the guess before it."""
        if name != GRAMMAR:
            self._calibrations[name].learn(confidence, right)
        if name in self.models:
            self.models[name].acceptance.learn(later, float(right), self._confidence)

    def _free(self, prefix: Prefix, free: Sequence[Drafter], plan: Plan) -> tuple[str, list[Guess]]:
        """Return tokens that the grammar demands, else the guesses of the lookup that promises most tokens."""
        constraint, most = prefix.sampler.constraint, plan.budget.max_draft - len(plan.tokens)
        forced = constraint.forced(prefix.tokens, plan.tokens) if constraint is not None else ()
        if forced:
            return GRAMMAR, [Guess(token, 1.0) for token in forced[:most]]
        found, best = ("", list[Guess]()), 0.0
        for drafter in free:
            guesses, q, promise = list[Guess](), plan.q, 0.0
            for guess in islice(drafter.propose(prefix, plan.tokens), most):
                q *= self._probability(drafter.name, guess)
                if q < UNLIKELY:
                    break
                promise += q
                guesses.append(guess)
            tokens = [*plan.tokens, *(guess.token for guess in guesses)]
            guesses = guesses[: legal_length(prefix, tokens) - len(plan.tokens)] if guesses else []
            if guesses and promise > best:
                found, best = (drafter.name, guesses), promise
        return found

    def _probability(self, name: str, guess: Guess) -> float:
        return 1.0 if name == GRAMMAR else self._calibrations[name].probability(guess.confidence)

    def _model_that_pays(
        self, prefix: Prefix, models: Sequence[Drafter], plan: Plan, choice: Choice, asked: Asked | None
    ) -> Asked | None:
        """Return the model whose next guesses are expected to gain most over ``choice``; None if none gains."""
        found, most = None, 0.0
        for drafter in models:
            model, k = self.models[drafter.name], len(plan.tokens)
            if asked is not None and asked.drafter is drafter and asked.at == k:
                if model.next(plan, self._confidence).value > choice.value:
                    return asked
                continue
            if not plan.tokens and choice.length == 0:
                plan.worth = max(plan.worth, min(model.pace, self._plain))
            lag = drafter.lag(prefix, plan.tokens)
            forecast, late = model.start(plan, self._confidence, lag)
            gain = forecast.value - choice.value
            if self._invests(model, gain, late, plan) and (gain > most or found is None):
                found, most = Asked(drafter, k, lag, drafter.propose(prefix, tuple(plan.tokens))), gain
        return found

    def _invests(self, model: DraftingModel, gain: float, late: float, plan: Plan) -> bool:
        """Return whether a model that gains so many seconds a step is asked, if it must read for ``late`` seconds."""
        if gain > 0.0:
            if late <= model.forgone + self._plain:
                return True
            if not plan.tokens:
                model.forgone = min(model.forgone + gain, AT_RISK * self._answer_s)
        loss = max(0.0, -gain) + late
        if plan.tokens or loss > EXPLORE * self._answer_s - self._spent:
            return False
        self._spent += loss
        return True

    def _ask(self, asked: Asked, plan: Plan) -> bool:
        """Add the next guess of a model, if it has one; note what it cost."""
        drafter, model = asked.drafter, self.models[asked.drafter.name]
        before = drafter.decode_s
        guess = next(asked.guesses, None)
        seconds = drafter.decode_s - before
        self._draft_s += seconds
        if guess is None:
            return False
        model.observe(asked.lag, seconds)
        plan.add(guess, drafter.name, self._probability(drafter.name, guess))
        asked.at, asked.lag = len(plan.tokens), 0
        return True

    def learn(
        self, draft: Draft, accepted: int, budget: Budget, target_s: float, confidence: LazyConfidence | None = None
    ) -> None:
        rows = budget.pending + len(draft.tokens)
        self._generated += accepted + 1
        share = rows / (rows + budget.others)
        self._answer_s += target_s * share + self._draft_s
        if self._resting:
            return
        self.verify.observe(rows + budget.others, target_s, budget.cached, share)
        self._learn_pace()
        self._learn_acceptance(draft, accepted)
        if self.models:
            self._learn_text(draft.drafter, confidence)

    def _learn_pace(self) -> None:
        """Learn the time of a token from the steps since the last decision."""
        tokens, seconds = self._generated - self._learned[0], self._answer_s - self._learned[1]
        self._learned = self._generated, self._answer_s
        self._lately += (1.0 - math.exp(-tokens / MEMORY)) * (seconds / tokens - self._lately)
        self._worth = min(self._lately, self._plain)

    def _learn_acceptance(self, draft: Draft, accepted: int) -> None:
        """Learn from the accepted guesses, and from the first that was not accepted."""
        for i in range(min(accepted + 1, len(draft.tokens) - draft.padding)):
            later = i > 0 and draft.names[i - 1] == draft.names[i]
            self._score(draft.names[i], draft.confidences[i], i < accepted, later=later)

    def _learn_text(self, drafter: str, confidence: LazyConfidence | None) -> None:
        """Learn how easy the text is, where no lookup helped: elsewhere the row is not worth its time."""
        for name, model in self.models.items():
            if name != drafter:
                model.acceptance.fade()
        if confidence is not None and (drafter == "none" or drafter in self.models):
            self._target.learn(CONFIDENCE, confidence())
