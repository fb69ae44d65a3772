"""Laws of targets that cannot be rewound far: the tokens are those of plain decoding, whatever is drafted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localspec.control.base import Budget, FixedDepth
from localspec.control.controller import Controller
from localspec.control.costs import Costs, Curve
from localspec.control.plan import Plan
from localspec.draft.base import Guess
from localspec.engine import Engine
from localspec.generation.pair import Pair, Setup
from localspec.generation.prefill import CHUNK, Prefill
from localspec.testing import ScriptedContext, ScriptedDrafter, chain_logits, scripted_engine
from tests.helpers.support import N_VOCAB, SAMPLINGS, options_of, plain_tokens

LOGITS = chain_logits(N_VOCAB, 5)
PROMPTS = st.lists(st.tuples(st.integers(0, 200), st.sampled_from("abc")), min_size=1, max_size=4)


def engine_of(
    rollback: int, drafters: list[Any], control: Any = None, chunk: int = 1
) -> tuple[Engine, ScriptedContext]:
    """A scripted engine on a target with this bound."""
    engine = scripted_engine(LOGITS, drafters, control=control)
    target = ScriptedContext(LOGITS, N_VOCAB, rollback=rollback)
    engine._pair = Pair(target, engine.vocabulary, tuple(drafters), prefill=Prefill(chunk=chunk))
    engine._pairs = (engine._pair,)
    return engine, target


@given(st.integers(0, 5), st.integers(1, 9), st.integers(0, 3), st.sampled_from(SAMPLINGS), PROMPTS)
@settings(max_examples=60, deadline=None)
def test_any_bound_gives_the_same_tokens(
    rollback: int, depth: int, wrong: int, sampling: Any, prompts: list[tuple[int, str]]
) -> None:
    """Drafts longer than the bound too, right for some tokens and then wrong, in one conversation after another."""

    def guesses(tokens: list[int]) -> list[int]:
        right = plain_tokens(LOGITS, tokens, sampling, depth)
        return [token if i < wrong else (token + 1) % N_VOCAB for i, token in enumerate(right)]

    engine, _ = engine_of(rollback, [ScriptedDrafter(guesses)], FixedDepth(depth))
    for length, letter in prompts:
        text = "The river rises in the hills above the town. " * 5
        prompt = text[:length] + letter
        done = engine.generate(prompt, max_tokens=12, **options_of(sampling))
        start = engine.tokenize(prompt)
        assert list(done.tokens) == plain_tokens(LOGITS, start, sampling, 12)


@pytest.mark.parametrize("chunk", [1, CHUNK])
def test_next_turn_returns_to_a_checkpoint(chunk: int) -> None:
    """A prompt that departs at its end is decoded from the last whole chunk on, and from where the last turn began."""
    engine, target = engine_of(0, [], chunk=chunk)
    first, more = "x" * 150, "y" * 100
    engine.generate(first, max_tokens=5, temperature=0)
    for prompt, reused in ((first[:140] + "z" * 20, 128), (first[:140] + "z" * 20 + more, 128), (first[:129], 128)):
        assert engine.generate(prompt, max_tokens=5, temperature=0).stats.cached_tokens == reused
    assert engine.generate("z" + first, max_tokens=5, temperature=0).stats.cached_tokens == 0
    assert target.rollback == 0


def test_conversation_that_goes_on_is_not_decoded_again() -> None:
    """Its answer is in the state, and a changed last message returns to where that message began."""
    engine, target = engine_of(0, [])
    messages = [{"role": "user", "content": "a" * 90}]
    reply = engine.chat(messages, max_tokens=20, temperature=0)
    held = len(target.tokens)
    longer = [*messages, {"role": "assistant", "content": reply.text}, {"role": "user", "content": "b" * 70}]
    assert engine.chat(longer, max_tokens=5, temperature=0).stats.cached_tokens == held
    longer[-1]["content"] = "c" * 70
    assert engine.chat(longer, max_tokens=5, temperature=0).stats.cached_tokens == held


def plan_of(rollback: int, checkpoint: float, likely: float) -> Plan:
    control = Controller(Costs(Curve((1, 16), (0.010, 0.012)), checkpoint=checkpoint), 16)
    plan = Plan(control.verify, Budget(1, 15, 99, rollback=rollback), 0.010, 0.0, checkpoint)
    for i in range(8):
        plan.add(Guess(i, likely), "ngram", likely)
    return plan


@pytest.mark.parametrize(("rollback", "checkpoint", "likely", "longest"), [
    (99, 1.0, 0.9, 8),  # nothing to pay
    (3, 0.001, 0.99, 8),  # cheap and likely: a checkpoint is worth it
    (3, 1.0, 0.99, 3),  # too dear: within the bound
    (0, 1.0, 0.99, 0),  # no draft
])  # fmt: skip
def test_checkpoints_have_a_price(rollback: int, checkpoint: float, likely: float, longest: int) -> None:
    """A draft beyond the bound is worth its checkpoint, or it is not made."""
    assert plan_of(rollback, checkpoint, likely).best().length == longest
    assert plan_of(rollback, checkpoint, likely).forecast(likely, likely, 0.0, 0.0).value <= max(
        plan_of(99, 0.0, likely).forecast(likely, likely, 0.0, 0.0).value, 0.0
    )


def test_control_asks_only_for_drafts_that_can_be_taken_back() -> None:
    """Where a checkpoint costs more than it gains."""
    drafter = ScriptedDrafter(lambda tokens: plain_tokens(LOGITS, tokens, SAMPLINGS[0], 8))
    control = Controller(Costs(Curve((1, 16), (0.010, 0.011)), checkpoint=10.0), 16)
    engine, target = engine_of(2, [drafter], control)
    engine._setup = Setup(control=control)
    engine.control = control
    engine.generate("abc", max_tokens=40, temperature=0)
    assert max(target.decoded[1:]) == 3
