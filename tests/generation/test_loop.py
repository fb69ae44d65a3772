"""Laws of the loop: the same tokens whatever is drafted, and a cache that holds exactly the text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localspec.control.base import Budget, FixedDepth, LazyConfidence
from localspec.draft.base import Draft, Drafter, Prefix
from localspec.draft.model import ModelDrafter
from localspec.draft.mtp import MtpDrafter
from localspec.draft.ngram import NgramDrafter
from localspec.generation.loop import Rules, Step
from localspec.generation.passes import PassShape
from localspec.params import SamplingParams
from localspec.protocols import Outputs, Rows
from localspec.sampling import Sampler
from localspec.testing import Logits, ScriptedContext, ScriptedDrafter, chain_logits, script_logits
from tests.helpers.support import GREEDY, N_VOCAB, SAMPLINGS, FakeMtp, decode, plain_tokens, prefill, prefix_of

PROMPT = [1, 2, 3, 1, 2]
DRAFTERS = ["right", "wrong", "half", "random", "ngram", "model", "other model", "mtp", "none"]


def make_drafter(kind: str, logits: Logits, params: SamplingParams) -> list[Drafter]:
    """A drafter that is right, wrong, or anything between."""
    n = N_VOCAB

    def right(tokens: list[int]) -> Sequence[int]:
        return plain_tokens(logits, tokens, params, 8)

    scripts: dict[str, Callable[[list[int]], Sequence[int]]] = {
        "right": right,
        "wrong": lambda tokens: [(token + 1) % n for token in right(tokens)],
        "half": lambda tokens: [(t + (i >= len(tokens) % 5)) % n for i, t in enumerate(right(tokens))],
        "random": lambda tokens: [int(t) for t in np.random.default_rng(tokens).integers(0, n, len(tokens) % 9)],
    }
    if kind in scripts:
        return [ScriptedDrafter(scripts[kind])]
    if kind in ("model", "other model"):
        own = logits if kind == "model" else chain_logits(n, 99)
        return [ModelDrafter(ScriptedContext(own, n), 512, n)]
    if kind == "mtp":
        return [MtpDrafter(FakeMtp(lambda token, *_: chain_logits(n, 7, order=1)((token,))))]
    return [NgramDrafter(min_match=1)] if kind == "ngram" else []


def limited(n: int, is_end: Callable[[int], bool] = lambda _: False, **other: Any) -> Rules:
    """Rules that draft ``n`` tokens, or as many as there are."""
    return Rules(is_end, lambda: 1 << 20, FixedDepth(n), **other)


def propose(drafters: Sequence[Drafter], room: int) -> Draft:
    """The draft of a control of fixed depth after the prompt."""
    return FixedDepth().draft(prefix_of(PROMPT), drafters, Budget(1, room, 99))


def run(
    logits: Logits,
    drafters: Sequence[Drafter],
    params: SamplingParams,
    width: int = 4,
    count: int = 30,
    is_end: Callable[[int], bool] = lambda _: False,
) -> tuple[list[Step], ScriptedContext, Prefix]:
    """Enough steps for ``count`` tokens, with the invariant of the cache checked at each."""
    target, prefix = ScriptedContext(logits, N_VOCAB), prefix_of(PROMPT, params)
    rows, _ = prefill(target, prefix, 512)
    steps = decode(target, prefix, rows, drafters, limited(width, is_end, reads_hidden=True))
    seen: list[Step] = []
    while len(prefix.tokens) < len(PROMPT) + count:
        seen.append(next(steps))
        assert target.tokens == prefix.tokens[:-1]
    steps.close()
    return seen, target, prefix


@pytest.mark.parametrize("kind", DRAFTERS)
@given(st.sampled_from(SAMPLINGS), st.integers(1, 8), st.integers(0, 30), st.floats(0.5, 8))
@settings(max_examples=15)
def test_any_drafter_any_width_same_tokens(
    kind: str, params: SamplingParams, width: int, seed: int, scale: float
) -> None:
    """Greedy or with any seed, the text is the one that decoding a token at a time gives."""
    logits = chain_logits(N_VOCAB, seed, scale=scale)
    steps, _, prefix = run(logits, make_drafter(kind, logits, params), params, width)
    found = [token for step in steps for token in step.tokens]
    assert found == plain_tokens(logits, PROMPT, params, len(found))
    assert prefix.tokens == [*PROMPT, *found]


@pytest.mark.parametrize("kind", DRAFTERS)
def test_steps_add_up(kind: str) -> None:
    """A step has its accepted tokens and one more, and never accepts more than was proposed, or that than allowed."""
    logits = chain_logits(N_VOCAB, 1)
    steps, target, _ = run(logits, make_drafter(kind, logits, GREEDY), GREEDY, width=5)
    for step in steps:
        assert len(step.tokens) == step.accepted + 1
        assert 0 <= step.accepted <= step.proposed <= 5
        assert (step.proposed == 0) == (step.draft.drafter == "none")
    assert target.decoded == [len(PROMPT), *(1 + step.proposed for step in steps[1:])]


def test_drafter_that_is_right_is_accepted_whole() -> None:
    """Every pass after the first gives the whole draft and a bonus token."""
    logits = chain_logits(N_VOCAB, 2)
    for params in SAMPLINGS:
        steps, _, _ = run(logits, make_drafter("right", logits, params), params, width=6)
        assert [(step.accepted, step.proposed) for step in steps[1:]] == [(6, 6)] * (len(steps) - 1) != []


def test_drafter_that_is_wrong_costs_tokens_but_no_text() -> None:
    """Every pass gives one recovered token, as decoding without it would."""
    logits = chain_logits(N_VOCAB, 2)
    steps, _, _ = run(logits, make_drafter("wrong", logits, GREEDY), GREEDY, width=6)
    assert {step.accepted for step in steps} == {0}


@pytest.mark.parametrize("at", range(6))
def test_end_token_inside_a_draft_is_the_last_of_its_step(at: int) -> None:
    """Draft tokens after it are removed from the text and from the cache."""
    script = [5] * at + [9, 6, 7, 8]
    logits = script_logits(script, N_VOCAB, len(PROMPT))
    drafter = ScriptedDrafter(lambda tokens: (script + [8] * 9)[len(tokens) - len(PROMPT) :])
    target, prefix = ScriptedContext(logits, N_VOCAB), prefix_of(PROMPT)
    rows, _ = prefill(target, prefix, 512)
    steps = decode(target, prefix, rows, [drafter], limited(8, lambda token: token == 9))
    tokens: list[int] = []
    while 9 not in tokens:
        tokens.extend(next(steps).tokens)
    assert tokens == script[: at + 1]
    assert target.tokens == prefix.tokens[:-1] == [*PROMPT, *tokens[:-1]]


@pytest.mark.parametrize("kind", DRAFTERS)
def test_hidden_row_is_of_the_second_last_token(kind: str) -> None:
    """The assistant's input is the target's row at the last position of the cache, and a copy of it."""

    def logits(tokens: tuple[int, ...]) -> Any:
        row = chain_logits(N_VOCAB, 4)(tokens)
        row[:4] = [-100 - len(tokens), -100 - tokens[-1], -100, -100]
        return row

    seen: list[list[float]] = []
    target, prefix = ScriptedContext(logits, N_VOCAB), prefix_of(PROMPT)
    rows, _ = prefill(target, prefix, 512)
    drafters = make_drafter(kind, logits, GREEDY)
    steps = decode(target, prefix, rows, drafters, limited(4, reads_hidden=True))
    for _ in islice(steps, 12):
        assert prefix.hidden is not None
        seen.append(prefix.hidden[:2].tolist())
        assert seen[-1] == [-100 - (len(prefix.tokens) - 1), -100 - prefix.tokens[-2]]
    assert len(seen) == 12


def test_hidden_rows_are_read_only_where_a_drafter_needs_them() -> None:
    """Reading them takes time."""

    class Costly(ScriptedContext):
        def hidden(self) -> Rows:
            raise AssertionError("nobody needs it")

    target, prefix = Costly(chain_logits(N_VOCAB, 4), N_VOCAB), prefix_of(PROMPT)
    rows, _ = prefill(target, prefix, 512)
    assert len(list(islice(decode(target, prefix, rows, [], Rules(lambda _: False, lambda: 9, FixedDepth())), 3))) == 3
    assert prefix.hidden is None


# What the control is told.


class Watched(FixedDepth):
    """Drafts at most three tokens, and remembers budgets and what it learned."""

    def __init__(self) -> None:
        super().__init__(3)
        self.budgets: list[Budget] = []
        self.learned: list[tuple[Draft, int, Budget, float, float | None]] = []

    def draft(self, prefix: Prefix, drafters: Sequence[Drafter], budget: Budget) -> Draft:
        self.budgets.append(budget)
        return super().draft(prefix, drafters, budget)

    def learn(
        self, draft: Draft, accepted: int, budget: Budget, target_s: float, confidence: LazyConfidence | None = None
    ) -> None:
        self.learned.append((draft, accepted, budget, target_s, confidence and confidence()))


class Timed(ScriptedContext):
    """Each pass takes as many seconds as it has tokens."""

    def decode(self, tokens: Sequence[int], outputs: Outputs = "all") -> Rows:
        self.decode_s += len(tokens)
        return super().decode(tokens, outputs)


def test_control_learns_every_pass() -> None:
    """Its draft, accepted tokens, budget and seconds, and the probability of its first token."""
    logits = chain_logits(N_VOCAB, 2)
    control = Watched()
    target, prefix = Timed(logits, N_VOCAB), prefix_of(PROMPT)
    rows, _ = prefill(target, prefix, 512)
    rules = Rules(lambda _: False, lambda: 99, control)
    steps = decode(target, prefix, rows, make_drafter("half", logits, GREEDY), rules)
    seen, before = [], []
    for step in islice(steps, 30):
        seen.append(step)
        before.append(tuple(prefix.tokens[: len(prefix.tokens) - len(step.tokens)]))
    assert len(control.learned) == len(seen) - 1
    for step, text, budget, learned in zip(seen[1:], before[1:], control.budgets, control.learned, strict=False):
        assert learned[:3] == (step.draft, step.accepted, budget)
        assert learned[3] == 1 + len(step.draft.tokens)
        pairs = list(zip(step.draft.tokens, step.tokens, strict=False))
        assert step.accepted == next((i for i, (guess, token) in enumerate(pairs) if guess != token), len(pairs))
        assert learned[4] == prefix.sampler.confidence(logits(text), step.tokens[0])


@given(st.integers(0, 9), st.integers(1, 9), st.integers(1, 9))
def test_budget_is_the_least_of_all_limits(draft_max: int, widest: int, left: int) -> None:
    """Of the user's, the passes' and the answer's, whose last token needs no draft."""
    most = min(draft_max, widest - 1, left - 1)
    for drafters in ([ScriptedDrafter(lambda _: [1] * 9)], []):
        control, target, prefix = Watched(), ScriptedContext(chain_logits(N_VOCAB, 2), N_VOCAB), prefix_of(PROMPT)
        rows, _ = prefill(target, prefix, 512)
        rules = Rules(lambda _: False, lambda: left, control, draft_max, passes=PassShape(widest))
        _, step = islice(decode(target, prefix, rows, drafters, rules), 2)
        drafts = bool(drafters) and most > 0
        assert control.budgets == [Budget(1, most, left, len(PROMPT))] * drafts
        assert len(step.draft.tokens) == min(3, most) * drafts


# Which drafter, and how far.


def test_first_drafter_with_a_proposal_drafts() -> None:
    """Later ones are not called."""
    asked: list[str] = []

    def script(name: str, tokens: list[int]) -> ScriptedDrafter:
        drafter = ScriptedDrafter(lambda _: asked.append(name) or tokens)  # type: ignore[func-returns-value]
        drafter.name = name
        return drafter

    drafters = [script("a", []), script("b", [1, 2, 3]), script("c", [4])]
    draft = propose(drafters, 2)
    assert (draft.tokens, draft.drafter, asked) == ((1, 2), "b", ["a", "b"])


def test_drafter_without_room_is_not_asked() -> None:
    """A limit of 0 or less means no draft."""

    def never(tokens: list[int]) -> Sequence[int]:
        raise AssertionError("asked")

    for room in (0, -1):
        assert propose([ScriptedDrafter(never)], room).tokens == ()


def test_drafter_with_room_for_one_is_asked() -> None:
    """The limit is what it may propose."""
    for room in (1, 2, 3):
        assert propose([ScriptedDrafter(lambda _: [1] * 9)], room).tokens == (1,) * room  # type: ignore[misc]


# Prefill.


@given(
    st.lists(st.integers(0, 3), max_size=12), st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 9)
)
def test_prefill_decodes_what_the_cache_lacks(cached: list[int], tokens: list[int], batch: int) -> None:
    """From the first difference, at least the last token, in passes of at most the batch; its row is the plain one."""
    logits = chain_logits(N_VOCAB, 0, order=40)
    target = ScriptedContext(logits, N_VOCAB)
    if cached:
        target.decode(cached, "none")
    target.decoded.clear()
    reports: list[tuple[int, int]] = []
    rows, reused = prefill(target, prefix_of(tokens), batch, lambda done, total: reports.append((done, total)))
    same = next(
        (i for i, (a, b) in enumerate(zip(cached, tokens, strict=False)) if a != b), min(len(cached), len(tokens))
    )
    assert reused == min(same, len(tokens) - 1)
    assert sum(target.decoded) == len(tokens) - reused
    assert max(target.decoded) <= batch
    assert target.tokens == tokens
    assert rows.tolist() == [logits(tuple(tokens)).tolist()]
    assert reports == [(at, len(tokens) - reused) for at in range(0, len(tokens) - reused, batch)]


class Recurrent(ScriptedContext):
    """Cannot take tokens back: it forgets everything."""

    def rewind(self, length: int) -> None:
        if length < len(self.tokens):
            self.tokens.clear()


@given(
    st.lists(st.integers(0, 3), max_size=12), st.lists(st.integers(0, 3), min_size=1, max_size=20), st.integers(1, 9)
)
def test_prefill_of_a_recurrent_model_is_right(cached: list[int], tokens: list[int], batch: int) -> None:
    """Forgotten tokens are decoded again; a text that only grows is reused."""
    logits = chain_logits(N_VOCAB, 0, order=40)
    target = Recurrent(logits, N_VOCAB)
    if cached:
        target.decode(cached, "none")
    rows, reused = prefill(target, prefix_of(tokens), batch)
    assert target.tokens == tokens
    assert rows.tolist() == [logits(tuple(tokens)).tolist()]
    assert reused == (len(cached) if cached == tokens[: len(cached)] and len(cached) < len(tokens) else 0)


def test_recurrent_model_decodes_without_a_drafter() -> None:
    """Its tokens are those of the plain rule."""
    logits = chain_logits(N_VOCAB, 3)
    target, prefix = Recurrent(logits, N_VOCAB), prefix_of(PROMPT)
    rows, _ = prefill(target, prefix, 512)
    steps = decode(target, prefix, rows, [], limited(0))
    found = [token for step in islice(steps, 10) for token in step.tokens]
    assert found == plain_tokens(logits, PROMPT, GREEDY, 10)
    assert target.decoded == [len(PROMPT), *[1] * 9]


class Forcing:
    """After every even number of tokens four more are forced."""

    def allowed(self, tokens: Sequence[int], ahead: Sequence[int] = ()) -> Any:
        mask = np.ones(N_VOCAB, np.bool_)
        if (run := self._run(len(tokens) + len(ahead))) is not None:
            mask[:] = False
            mask[run] = True
        return mask

    def _run(self, at: int) -> int | None:
        return at % N_VOCAB if at % 6 < 4 else None

    def fits(self, tokens: Sequence[int], ahead: Sequence[int], token: int) -> bool:
        return True

    def ending_token(self, tokens: Sequence[int], ahead: Sequence[int]) -> int:
        raise AssertionError("there is room")

    def forced(self, tokens: Sequence[int], ahead: Sequence[int] = ()) -> tuple[int, ...]:
        found: list[int] = []
        while (token := self._run(len(tokens) + len(ahead) + len(found))) is not None:
            found.append(token)
        return tuple(found)

    def legal(self, tokens: Sequence[int], draft: Sequence[int]) -> int:
        wrong = (i for i, token in enumerate(draft) if not self.allowed(tokens, draft[:i])[token])
        return next(wrong, len(draft))


@pytest.mark.parametrize("widest", [2, 3, 5, 9])
def test_no_pass_is_wider_than_allowed(widest: int) -> None:
    """Forced tokens and the draft after them together; and the text is that of single rows."""
    logits = chain_logits(N_VOCAB, 4)
    texts = []
    for drafters in ([], [ScriptedDrafter(lambda tokens: [len(tokens) % N_VOCAB] * 8)], [NgramDrafter(min_match=1)]):
        target = ScriptedContext(logits, N_VOCAB)
        prefix = Prefix(list(PROMPT), Sampler(GREEDY, Forcing()))
        rows, _ = prefill(target, prefix, 512)
        rules = limited(8, passes=PassShape(widest))
        steps = list(islice(decode(target, prefix, rows, drafters, rules), 60))
        assert max(target.decoded[1:]) <= widest
        assert sum(step.forced for step in steps) > 0
        texts.append([token for step in steps for token in step.tokens][:60])
    assert texts[0] == texts[1] == texts[2]


def test_no_hidden_row_is_there_after_forced_tokens() -> None:
    """The row before the last token is not decoded yet, so no assistant drafts."""
    logits = chain_logits(N_VOCAB, 4)
    target, prefix = ScriptedContext(logits, N_VOCAB), Prefix(list(PROMPT), Sampler(GREEDY, Forcing()))
    rows, _ = prefill(target, prefix, 512)
    kinds = {
        (step.forced > 0, prefix.hidden is None)
        for step in islice(decode(target, prefix, rows, [], limited(4, reads_hidden=True)), 12)
    }
    assert kinds == {(True, True), (False, False)}


def test_nothing_is_forced_after_an_end_token() -> None:
    """The answer is complete."""
    target = ScriptedContext(chain_logits(N_VOCAB, 4), N_VOCAB)
    prefix = Prefix(list(PROMPT), Sampler(GREEDY, Forcing()))
    rows, _ = prefill(target, prefix, 512)
    steps = list(islice(decode(target, prefix, rows, [], limited(4, lambda token: token != PROMPT[0])), 12))
    assert {step.forced for step in steps if step.tokens[-1] != PROMPT[0]} == {0}
