"""Laws of the counters."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localspec.generation.stats import Count, Stats

drafts = st.integers(1, 8).flatmap(lambda n: st.tuples(st.sampled_from("ab"), st.just(n), st.integers(0, n)))
steps = st.lists(drafts | st.just(("none", 0, 0)), max_size=30)


def recorded(history: list[tuple[str, int, int]]) -> Stats:
    stats = Stats()
    for name, proposed, accepted in history:
        stats.record((name,) * proposed, accepted)
    return stats


@given(steps)
def test_counts_are_the_sums_of_the_steps(history: list[tuple[str, int, int]]) -> None:
    """Over all, by drafter, and by position in the draft."""
    stats = recorded(history)
    drafted = [step for step in history if step[1]]
    assert stats.steps == len(history)
    assert stats.proposed == sum(n for _, n, _ in drafted)
    assert stats.accepted == sum(k for *_, k in drafted)
    for name, count in stats.by_drafter.items():
        mine = [step for step in drafted if step[0] == name]
        assert count == Count(sum(n for _, n, _ in mine), sum(k for *_, k in mine), len(mine))
    assert len(stats.per_position) == max((n for _, n, _ in drafted), default=0)
    for i, count in enumerate(stats.per_position):
        assert count.proposed == count.steps == sum(n > i for _, n, _ in drafted)
        assert count.accepted == sum(k > i for *_, k in drafted)


@given(steps)
def test_ratios(history: list[tuple[str, int, int]]) -> None:
    """Acceptance is over proposed tokens, the mean over steps that drafted; both None where nothing was drafted."""
    stats = recorded(history)
    drafted = [step for step in history if step[1]]
    if not drafted:
        assert (stats.acceptance, stats.mean_accepted) == (None, None)
        return
    accepted = sum(k for *_, k in drafted)
    assert stats.acceptance == accepted / sum(n for _, n, _ in drafted)
    assert stats.mean_accepted == accepted / len(drafted)


@given(steps, steps)
def test_adding_is_recording_one_after_the_other(first: list[tuple[str, int, int]], second: list) -> None:  # type: ignore[type-arg]
    """Two generations summed count as one that did both."""
    stats = recorded(first)
    stats.add(recorded(second))
    assert stats == recorded(first + second)


def test_adding_sums_every_number() -> None:
    """No field is forgotten."""
    numbers = [field.name for field in fields(Stats) if field.name not in ("by_drafter", "per_position")]
    a = Stats(**{name: i + 1 for i, name in enumerate(numbers)})  # type: ignore[arg-type]
    b = Stats(**dict.fromkeys(numbers, 100))  # type: ignore[arg-type]
    a.add(b)
    assert [getattr(a, name) for name in numbers] == [i + 101 for i in range(len(numbers))]


def test_adding_leaves_the_other_alone() -> None:
    """Its counters are not shared."""
    total, one = Stats(), recorded([("a", 3, 2)])
    total.add(one)
    total.record("aaa", 3)
    assert one == recorded([("a", 3, 2)])


def test_times() -> None:
    """Time that is neither the target's nor the drafter's is Python's, and never negative."""
    stats = Stats(generated_tokens=50, generate_s=2.0, target_s=1.5, draft_s=0.3)
    assert stats.tokens_per_s == 25
    assert stats.python_s == pytest.approx(0.2)
    assert Stats(generate_s=1.0, target_s=1.1).python_s == 0
    assert Stats(generated_tokens=1).tokens_per_s == 0
    assert Stats(prompt_tokens=10, cached_tokens=7).prefilled_tokens == 3


@given(steps)
def test_json_objects_have_the_contract_s_keys(history: list[tuple[str, int, int]]) -> None:
    """They are valid JSON."""
    stats = recorded(history)
    timings, draft = json.loads(json.dumps(stats.timings())), json.loads(json.dumps(stats.draft()))
    assert {
        "prompt_tokens", "prompt_s", "generated_tokens", "generate_s", "tokens_per_s", "python_s"
    } <= timings.keys()  # fmt: skip
    assert draft.keys() == {"proposed", "accepted", "acceptance", "mean_accepted", "by_drafter", "per_position"}
    assert sum(count["accepted"] for count in draft["by_drafter"].values()) == draft["accepted"]


def test_summary_is_one_line() -> None:
    """With and without drafts."""
    assert Stats(generated_tokens=8, generate_s=2.0).summary() == "8 tokens, 4.0 tok/s; nothing drafted"
    assert "mtp: 2.0 accepted a step, 50% of drafts" in recorded([("mtp", 4, 2)]).summary()
