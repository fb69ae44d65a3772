"""The automatic control: which drafter, how far, and when not at all. It knows no model and no clock.

Each step it takes the draft that is worth most, given what passes cost here (:mod:`.costs`) and how often guesses like
these were right (:mod:`.estimates`). What costs nothing (a lookup, a grammar that leaves no choice) is always asked;
a model is asked for one guess after another, as long as the next is expected to pay. A model that does not pay is tried
again now and then, for a small share of the time.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice
from operator import mul

from localspec.control.base import Budget, LazyConfidence, legal_length
from localspec.control.costs import Costs, DraftCosts, LiveCurve
from localspec.control.estimates import Calibration, Outlook, Rate
from localspec.control.plan import Choice, Plan
from localspec.draft.base import Draft, Drafter, Guess, Prefix

#: Share of the time that may be lost on trying drafters that are not expected to pay.
_EXPLORE = 0.005
#: At the beginning of an answer little is known of its text, and it may be short: drafts cost so much more in the
#: decision, fading over so many tokens.
_CAUTION, _CAUTIOUS = 0.05, 24.0
#: Free guesses are looked at while they are at least this likely to be reached.
_UNLIKELY = 0.05
#: The memory, in tokens, of what a token costs lately.
_LATELY = 6.0
#: An answer is expected to go on for as many tokens as it has, and so many more.
_MORE = 32
#: It may end at any token: reading what came before may take so much of its time so far, and a step.
_AT_RISK = 0.15
#: Tokens that a model has to read before its first guess, when it guessed in the step before.
_USUAL_LAG = 2
#: Share of the steps in which lookups have nothing that pays, as long as little is known of the answer; the weight of
#: that, and the memory, in steps.
_ALONE, _ALONE_WEIGHT, _ALONE_MEMORY = 0.6, 8.0, 20.0
_FOLLOW = 0.1
#: Time saved up for trying models, in plain steps, and the share of an answer's own time that a trial may take: a short
#: answer must not pay for what the others saved.
_MOST_SPARE, _OF_ANSWER = 40.0, 0.02
#: About what a decision takes in Python, the share of the time that it may take, and how many steps go without at most.
_THINKING_S, _OVERHEAD, _LONGEST_REST = 6e-5, 0.01, 32
#: How sure targets are of their tokens, as long as little is known of the answer, and the memory of it, in steps.
_SURE, _SURE_WEIGHT, _SURE_MEMORY = 0.75, 6.0, 40.0
#: The name of tokens that a grammar demands.
GRAMMAR = "grammar"
_NOTHING = Draft()


@dataclass
class _Model:
    """What is known of a drafter that decodes."""

    first: LiveCurve
    step: float
    outlook: Outlook = field(default_factory=Outlook)
    pace: float = math.inf  # seconds a token that it is expected to take where no lookup helps

    @classmethod
    def of(cls, costs: DraftCosts) -> _Model:
        return cls(LiveCurve(costs.first, 64), costs.step)


@dataclass
class _Asked:
    """A model that is being asked, after ``at`` draft tokens; it reads ``lag`` tokens before its next guess."""

    drafter: Drafter
    at: int
    lag: int
    guesses: Iterator[Guess]


class Controller:
    """Control by measured ``costs``; passes are at most ``widest`` wide. One for all generations of an engine."""

    def __init__(self, costs: Costs, widest: int) -> None:
        self.verify, self._widest = LiveCurve(costs.verify, widest), widest
        self.models = {name: _Model.of(one) for name, one in costs.drafters.items()}
        self._calibrations: defaultdict[str, Calibration] = defaultdict(Calibration)
        self._plain = self._worth = self._lately = self.verify.seconds(1)
        self._spare = self._draft_s = 0.0
        self.begin()

    @property
    def costs(self) -> Costs:
        """As they are now."""
        models = {name: DraftCosts(model.first.now(), model.step) for name, model in self.models.items()}
        return Costs(self.verify.now(), models)

    def begin(self) -> None:
        """A new answer: another text, of which nothing is known."""
        self._generated, self._answer_s = 0, 0.0
        self._learned = (0, 0.0)  # tokens and seconds of the answer that were learned from
        self._rest, self._resting = 0, False
        self._aside: tuple[int, str, Guess] | None = None
        self._calibrations.clear()
        self._sure = Rate(_SURE, _SURE_WEIGHT, _SURE_MEMORY)
        self._alone = Rate(_ALONE, _ALONE_WEIGHT, _ALONE_MEMORY)
        for model in self.models.values():
            model.outlook.begin()

    def another(self) -> Controller:
        """Return a control for another sequence at the same time. Both learn what passes cost, each its own text."""
        made = Controller(self.costs, self._widest)
        made.verify = self.verify
        return made

    def draft(self, prefix: Prefix, drafters: Sequence[Drafter], budget: Budget) -> Draft:
        self._draft_s = 0.0
        self._resting = self._rest > 0
        if self._resting:
            self._rest -= 1
            return _NOTHING
        self._plain = self.verify.share(1, budget.cached, budget.others)
        if not self._generated:
            self._lately = self._worth = self._plain
        self._learn_from_aside(prefix)
        plan = Plan(self.verify, budget, self._worth, _CAUTION * math.exp(-self._generated / _CAUTIOUS))
        free = [drafter for drafter in drafters if drafter.free]
        models = [drafter for drafter in drafters if drafter.name in self.models]
        asked: _Asked | None = None
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
                    self._aside = (len(prefix.tokens), name, guesses[0])
                break
            for guess in guesses[:take]:
                plan.add(guess, name, self._probability(name, guess))
        draft = self._finished(plan)
        if not draft.tokens:  # thinking again at once would cost too much where a pass takes next to nothing
            self._rest = min(_LONGEST_REST, int(_THINKING_S / (_OVERHEAD * self._plain)))
        return draft

    def _learn_from_aside(self, prefix: Prefix) -> None:
        """A free guess that was not worth verifying shows for nothing whether it would have been right."""
        aside, self._aside = self._aside, None
        if aside is not None and len(prefix.tokens) > aside[0] and aside[1] != GRAMMAR:
            at, name, guess = aside
            self._calibrations[name].learn(guess.confidence, prefix.tokens[at] == guess.token)

    def _free(self, prefix: Prefix, free: Sequence[Drafter], plan: Plan) -> tuple[str, list[Guess]]:
        """What may follow and costs nothing: what the grammar demands, else the most promising guesses."""
        constraint, most = prefix.sampler.constraint, plan.budget.max_draft - len(plan.tokens)
        forced = constraint.forced(prefix.tokens, plan.tokens) if constraint is not None else ()
        if forced:
            return GRAMMAR, [Guess(token, 1.0) for token in forced[:most]]
        found, best = ("", list[Guess]()), 0.0
        for drafter in free:
            guesses, q, promise = list[Guess](), plan.q, 0.0
            for guess in islice(drafter.propose(prefix, plan.tokens), most):
                q *= self._probability(drafter.name, guess)
                if q < _UNLIKELY:
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
        self, prefix: Prefix, models: Sequence[Drafter], plan: Plan, choice: Choice, asked: _Asked | None
    ) -> _Asked | None:
        """The model whose next guesses are worth more than ``choice``, by what is known of it, if there is one."""
        found, most, sure = None, 0.0, self._sure.value
        for drafter in models:
            model, k = self.models[drafter.name], len(plan.tokens)
            if asked is not None and asked.drafter is drafter and asked.at == k:
                rest = model.outlook.rest(sure)
                if plan.forecast(rest, rest, model.step, model.step).value > choice.value:
                    return asked
                continue
            if not plan.tokens and choice.length == 0:
                plan.worth = max(plan.worth, min(model.pace, self._plain))
            lag = drafter.lag(prefix, plan.tokens)
            start = model.first.seconds(min(lag, _USUAL_LAG + k))
            late = model.first.seconds(lag) - start
            forecast = plan.forecast(model.outlook.first(sure), model.outlook.rest(sure), start, model.step)
            gain = forecast.value - choice.value
            if not k:
                model.pace = forecast.pace
            if not self._invests(gain, late, forecast.length, plan):
                continue
            if gain > most or found is None:
                found, most = _Asked(drafter, k, lag, drafter.propose(prefix, tuple(plan.tokens))), gain
        return found

    def _invests(self, gain: float, late: float, length: int, plan: Plan) -> bool:
        """Whether a model that gains so many seconds a step is asked, when it must read for ``late`` seconds first."""
        left = min(plan.budget.tokens_left, _MORE + self._generated)
        steps = self._alone.value * left / (length + 1)
        if gain > 0.0 and late <= min(gain * steps, _AT_RISK * self._answer_s + self._plain):
            return True
        loss = max(0.0, -gain) + late
        if plan.tokens or loss > min(self._spare, _OF_ANSWER * self._answer_s):
            return False
        self._spare -= loss
        return True

    def _ask(self, asked: _Asked, plan: Plan) -> bool:
        """Add the next guess of a model, if it has one; note what it cost."""
        drafter, model = asked.drafter, self.models[asked.drafter.name]
        before = drafter.decode_s
        guess = next(asked.guesses, None)
        seconds = drafter.decode_s - before
        self._draft_s += seconds
        if guess is None:
            return False
        if asked.lag:
            model.first.observe(asked.lag, seconds)
        else:
            model.step += _FOLLOW * (min(seconds, 2.0 * model.step) - model.step)
        plan.add(guess, drafter.name, self._probability(drafter.name, guess))
        asked.at, asked.lag = len(plan.tokens), 0
        return True

    def _finished(self, plan: Plan) -> Draft:
        """The draft. What a model guessed in vain counts for its outlook by how likely it was."""
        draft = plan.draft()
        for i in range(len(draft.tokens) - draft.padding, len(plan.tokens)):
            name = plan.names[i]
            if name in self.models:
                later = i > 0 and plan.names[i - 1] == name
                self.models[name].outlook.learn(later, plan.confidences[i], self._sure.value)
                break
        return draft

    def learn(
        self, draft: Draft, accepted: int, budget: Budget, target_s: float, confidence: LazyConfidence | None = None
    ) -> None:
        rows = budget.pending + len(draft.tokens)
        self._generated += accepted + 1
        self._answer_s += target_s * rows / (rows + budget.others) + self._draft_s
        if not self._resting:
            self.verify.observe(rows + budget.others, target_s, budget.cached)
            self._learn(draft, accepted)
            if self.models:
                self._learn_without_lookups(draft.drafter, confidence)

    def _learn_without_lookups(self, drafter: str, confidence: LazyConfidence | None) -> None:
        """Whether a model could have been of use in the step, and how easy its text was if so."""
        alone = drafter == "none" or drafter in self.models
        self._alone.learn(float(alone))
        for name, model in self.models.items():
            if name != drafter:
                model.outlook.fade()
        if alone and confidence is not None:
            self._sure.learn(confidence())

    def _learn(self, draft: Draft, accepted: int) -> None:
        """What a step shows that was thought about, and what the steps since the last such one took."""
        guesses = len(draft.tokens) - draft.padding
        for i in range(min(accepted + 1, guesses)):
            name, right = draft.names[i], i < accepted
            if name != GRAMMAR:
                self._calibrations[name].learn(draft.confidences[i], right)
            if name in self.models:
                later = i > 0 and draft.names[i - 1] == name
                self.models[name].outlook.learn(later, float(right), self._sure.value)
        tokens, seconds = self._generated - self._learned[0], self._answer_s - self._learned[1]
        self._learned = self._generated, self._answer_s
        self._spare = min(self._spare + _EXPLORE * seconds, _MOST_SPARE * self._plain)
        part = 1.0 - math.exp(-tokens / _LATELY)
        self._lately += part * (seconds / tokens - self._lately)
        self._worth = min(self._lately, self._plain)
