"""Laws of paired runs: the same text twice, nothing reused, the engine left as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localspec.bench.paired import BenchOptions, Measurement, check_prompts, paired_runs, warm_up
from localspec.bench.prompts import BenchPrompt
from localspec.bench.recording import traces
from localspec.bench.replay import replay
from localspec.bench.trace import Trace, read_traces, trace_lines
from localspec.control.base import Budget, FixedDepth, LazyConfidence
from localspec.control.costs import Costs, Curve
from localspec.draft.base import Draft
from localspec.draft.model import ModelDrafter
from localspec.engine import Engine
from localspec.errors import InputError
from localspec.generation.pair import Pair
from localspec.generation.result import Completion
from localspec.generation.stats import Stats
from localspec.testing import ScriptedContext, ScriptedDrafter, ScriptedVocabulary, chain_logits
from localspec.testing import scripted_engine as made

N = 64
LOGITS = chain_logits(N, seed=3)


def likely(tokens: list[int]) -> list[int]:
    """The target's next token, and then a wrong one."""
    return [int(LOGITS(tuple(tokens)).argmax()), 0]


def prompt(id: str, text: str = "Hello there") -> BenchPrompt:
    return BenchPrompt(id, "chat", ({"role": "user", "content": text},))


@pytest.fixture
def engine() -> Engine:
    return made(LOGITS, [ScriptedDrafter(likely)], vocabulary=ScriptedVocabulary(N))


def test_both_runs_have_the_same_text(engine: Engine) -> None:
    """Greedy and seeded; only one of them drafted."""
    for options in (BenchOptions(12), BenchOptions(12, temperature=1.0, seed=5)):
        found = list(paired_runs(engine, [prompt("a"), prompt("b", "Another one")], 2, options))
        assert [(pair.prompt, pair.turn) for pair in found] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
        assert all(pair.same and pair.plain.generated == 12 for pair in found)
        assert all(pair.plain.proposed == 0 < pair.auto.accepted for pair in found)
        assert all(pair.auto.steps < pair.plain.steps for pair in found)


def test_who_goes_first_changes(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """From prompt to prompt, and for a prompt from pass to pass."""
    order: list[tuple[str, bool]] = []
    stream = engine.stream_chat

    def watched(messages: Any, **options: Any) -> Any:
        order.append((messages[0]["content"], engine.drafting))
        return stream(messages, **options)

    monkeypatch.setattr(engine, "stream_chat", watched)
    list(paired_runs(engine, [prompt("a", "a"), prompt("b", "b"), prompt("c", "c")], 2, BenchOptions(4)))
    first = [drafting for _, drafting in order[::2]]
    assert first == [False, True, False, True, False, True]
    assert all(a[0] == b[0] and a[1] != b[1] for a, b in zip(order[::2], order[1::2], strict=True))


def test_nothing_is_reused(engine: Engine) -> None:
    """The whole prompt is decoded for each run, be it the same."""
    (first, second) = paired_runs(engine, [prompt("a")], 2, BenchOptions(4))
    runs = [first.plain, first.auto, second.plain, second.auto]
    assert len({run.prompt_tokens for run in runs}) == 1
    target: Any = engine._target
    assert target.decoded.count(runs[0].prompt_tokens) == len(runs)


@pytest.mark.parametrize("drafting", [True, False])
def test_the_engine_is_left_as_it_was(engine: Engine, drafting: bool) -> None:
    """After a run, after the traces, and after an interruption within one."""
    engine.drafting, control = drafting, engine.control
    list(paired_runs(engine, [prompt("a")], 1, BenchOptions(4)))
    list(traces(engine, [prompt("a")], BenchOptions(4)))

    def stop() -> None:
        raise KeyboardInterrupt

    for broken in (
        paired_runs(engine, [prompt("a")], 1, BenchOptions(4, check=stop)),
        traces(engine, [prompt("a")], BenchOptions(4, check=stop)),
    ):
        with pytest.raises(KeyboardInterrupt):
            next(broken)  # type: ignore[call-overload]
    assert (engine.drafting, engine.control) == (drafting, control)


def test_warm_up_is_short(engine: Engine) -> None:
    """It answers in both modes."""
    drafter: Any = engine._pair.drafters[0]
    warm_up(engine, BenchOptions(1000))
    assert len(drafter.observed) > 2
    assert len(engine._target.tokens) < 150


def test_the_end_token_counts() -> None:
    """It took a pass as the others did; an answer cut by its budget has none."""
    for reason, generated in (("stop", 4), ("length", 3)):
        done = Completion("abc", (1, 2, 3), reason, 0, "exact", Stats(generated_tokens=3))  # type: ignore[arg-type]
        assert Measurement.from_completion(done, 0.1).generated == generated
    assert Measurement.from_completion(Completion("", (), "stop", 0, "exact", Stats()), 0.1).timed == 0


def test_a_prompt_that_cannot_be_answered_is_told_first(engine: Engine) -> None:
    """By its name: too long for the context with its answer, or nothing that the template takes."""
    with pytest.raises(InputError, match=r"prompt long .* room for 0 of 8 .* --ctx-size"):
        check_prompts(engine, [prompt("short"), prompt("long", "x" * 5000)], BenchOptions(8))
    bare = Engine(Pair(engine._target, engine.vocabulary), model=engine.model)
    with pytest.raises(InputError, match=r"prompt a: .* no chat template"):
        check_prompts(bare, [prompt("a")], BenchOptions(8))
    check_prompts(bare, [prompt("a")], BenchOptions(8, raw=True))
    assert next(paired_runs(bare, [prompt("a")], 1, BenchOptions(8, raw=True))).plain.prompt_tokens == len(
        "Hello there"
    )


def test_a_trace_is_the_plain_answer_with_the_guesses_of_models() -> None:
    """Each guess is the draft model's; guesses of a lookup are not recorded."""
    other = chain_logits(N, seed=4)
    drafters = [ScriptedDrafter(likely), ModelDrafter(ScriptedContext(other, N), 64, N)]
    engine = made(LOGITS, drafters, vocabulary=ScriptedVocabulary(N), control=FixedDepth(2))
    (found,) = traces(engine, [prompt("a")], BenchOptions(10))
    assert found is not None
    plain = engine.chat([*prompt("a").messages], max_tokens=10, temperature=0.0)
    assert (*found.prompt[-1:], *found.tokens) == plain.tokens
    assert list(found.guesses) == ["model"]
    for i, chain in enumerate(found.guesses["model"]):
        text = [*found.prompt, *found.tokens[:i]]
        for guess in chain:
            assert guess.token == int(other(tuple(text)).argmax())
            text.append(guess.token)


def test_a_trace_says_how_sure_the_target_was(tmp_path: Path) -> None:
    """Of each of its tokens: the softmax of its row, which a file keeps, and a replay gives the control again."""
    engine = made(LOGITS, [ScriptedDrafter(likely)], vocabulary=ScriptedVocabulary(N), control=FixedDepth(2))
    (found,) = traces(engine, [prompt("a")], BenchOptions(10))
    assert found is not None
    assert len(found.confidence) == len(found.tokens) == 9
    for i, sure in enumerate(found.confidence):
        row = LOGITS((*found.prompt, *found.tokens[:i])).astype(float)
        assert sure == pytest.approx(float(np.exp(row - row.max()).max() / np.exp(row - row.max()).sum()), abs=1e-5)
    file = tmp_path / "traces.jsonl"
    file.write_text("".join(trace_lines([found])))
    (again,) = read_traces(file)
    assert again.confidence == pytest.approx(found.confidence, abs=1e-4)
    told = Told(0)
    replay(again, Costs(Curve((1, 8), (0.01, 0.02))), told, sources=["ngram"])
    assert told.sure == pytest.approx(again.confidence[1:], abs=1e-3)  # the first one comes with the prompt
    cut = {**found.to_dict(), "sure": list(found.confidence[1:])}
    with pytest.raises(InputError, match="cut off"):
        Trace.from_dict(cut)


def test_control_is_told_of_the_first_token_of_each_step() -> None:
    """Its confidence is passed on, whatever was drafted and accepted in the step."""
    told = Told(2)
    engine = made(LOGITS, [ScriptedDrafter(likely)], vocabulary=ScriptedVocabulary(N), control=told)
    before = engine.prompt_tokens(prompt("a").messages)
    tokens = engine.chat([*prompt("a").messages], max_tokens=12, temperature=0.0).tokens
    assert max(told.accepted) > 0
    at = 1  # the first one comes with the prompt
    for sure, accepted in zip(told.sure, told.accepted, strict=True):
        row = LOGITS((*before, *tokens[:at])).astype(float)
        assert sure == pytest.approx(float(1.0 / np.exp(row - row.max()).sum()), abs=1e-5)
        assert told.cached.pop(0) == len(before) + at - 1  # the last token is in no cache yet
        at += accepted + 1


class Told(FixedDepth):
    """Control that keeps the arguments of its calls."""

    def __init__(self, depth: int) -> None:
        super().__init__(depth)
        self.sure: list[float] = []
        self.accepted: list[int] = []
        self.cached: list[int] = []

    def learn(
        self, draft: Draft, accepted: int, budget: Budget, target_s: float, confidence: LazyConfidence | None = None
    ) -> None:
        assert confidence is not None
        self.sure.append(confidence())
        self.accepted.append(accepted)
        self.cached.append(budget.cached)


def test_an_answer_of_one_token_has_no_trace(engine: Engine) -> None:
    """There is nothing to draft in it."""
    assert list(traces(engine, [prompt("a")], BenchOptions(1))) == [None]
