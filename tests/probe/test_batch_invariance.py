"""Laws of exactness: what the probe finds, and that guarded decoding gives the tokens of single rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localspec.control.base import FixedDepth
from localspec.generation.guard import NO_GUARD, Guard
from localspec.generation.loop import Rules, Step
from localspec.llama.saved_cells import repeat_cells
from localspec.params import SamplingParams
from localspec.probe.batch_invariance import Findings, Invariance, probe
from localspec.protocols import Outputs, Rows
from localspec.testing import Logits, ScriptedContext, ScriptedDrafter, chain_logits
from tests.helpers.support import N_VOCAB, SAMPLINGS, decode, plain_tokens, prefill, prefix_of

PROMPT = [1, 2, 3, 1, 2]


class BatchNoise(ScriptedContext):
    """Rows of batches of more than ``exact`` tokens are off by up to ``noise`` / 2; those of single ones are not."""

    pass_width = 512

    def __init__(self, logits: Logits, exact: int, noise: float) -> None:
        super().__init__(logits, N_VOCAB)
        self._exact, self._noise = exact, noise
        self._random = np.random.default_rng(0)

    def decode(self, tokens: Sequence[int], outputs: Outputs = "all") -> Rows:
        rows = super().decode(tokens, outputs)
        if len(tokens) > self._exact:
            rows += self._random.uniform(-self._noise / 2, self._noise / 2, rows.shape).astype(np.float32)
        return rows

    def state(self) -> bytes:
        return bytes(self.tokens)

    def restore(self, state: bytes, tokens: Sequence[int]) -> None:
        raise AssertionError("this state is not one that can be repeated")


@pytest.mark.parametrize("exact", [1, 2, 3, 8])
def test_probe_finds_the_widest_exact_batch(exact: int) -> None:
    """It also bounds, with a margin, the change of logit differences in wider batches."""
    found = probe(BatchNoise(chain_logits(N_VOCAB, 3), exact, 0.5), [1, 2, 3, 4, 5])
    assert (found.width, found.exact) == (exact, False)
    assert 0.3 < found.noise < 0.5 * 1.5
    assert 0.0 < found.greedy_noise <= found.noise


@pytest.mark.parametrize("widest", [2, 5, 9, 32, 64])
def test_probe_of_an_exact_context(widest: int) -> None:
    """Every width, and nothing left in the cache."""
    context = BatchNoise(chain_logits(N_VOCAB, 3), 64, 0.5)
    assert probe(context, [7, 8], widest) == Invariance(widest, widest, 0.0)
    assert context.tokens == []
    assert {2, widest} <= set(context.decoded)


def guarded(
    logits: Logits, params: SamplingParams, guard: Guard, noise: float, width: int, count: int = 40
) -> tuple[list[int], list[Step]]:
    """Tokens of a loop whose drafter is right more often than not, on rows that are off in batches."""
    context, prefix = BatchNoise(logits, 1, noise), prefix_of(PROMPT, params)
    rows, _ = prefill(context, prefix, 1)

    def script(tokens: list[int]) -> list[int]:
        right = plain_tokens(logits, tokens, params, width)
        return [(token + (len(tokens) % 3 == 0 and i == 2)) % N_VOCAB for i, token in enumerate(right)]

    rules = Rules(lambda _: False, lambda: 1 << 20, FixedDepth(width), guard=guard)
    steps = list(islice(decode(context, prefix, rows, [ScriptedDrafter(script)], rules), count))
    return [token for step in steps for token in step.tokens], steps


@given(st.sampled_from(SAMPLINGS), st.integers(0, 200), st.floats(0.01, 2.0), st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_guarded_is_the_text_of_single_rows(params: SamplingParams, seed: int, noise: float, width: int) -> None:
    """Greedy and sampled, for any noise of batch rows up to the guard's bound."""
    logits = chain_logits(N_VOCAB, seed)
    tokens, _ = guarded(logits, params, Guard(1, noise, noise), noise, width)
    assert tokens == plain_tokens(logits, PROMPT, params, len(tokens))


def test_without_the_guard_texts_differ() -> None:
    """The law above can fail."""
    same = 0
    for seed in range(20):
        logits = chain_logits(N_VOCAB, seed)
        tokens, steps = guarded(logits, SAMPLINGS[0], NO_GUARD, 1.0, 6)
        same += tokens == plain_tokens(logits, PROMPT, SAMPLINGS[0], len(tokens))
        assert not any(step.near_tie for step in steps)
    assert same < 15


@pytest.mark.parametrize("params", SAMPLINGS)
def test_near_ties_are_few_where_the_noise_is_small(params: SamplingParams) -> None:
    """The guard is worth its name only when it lets clear choices pass."""
    guard = Guard(1, 0.02, 0.02)
    steps = [step for seed in range(10) for step in guarded(chain_logits(N_VOCAB, seed), params, guard, 0.02, 6)[1]]
    near = sum(step.near_tie for step in steps)
    assert 0 < near < sum(len(step.tokens) for step in steps) / 10


def test_narrow_batches_are_not_guarded() -> None:
    """Up to the guard's width rows are taken as they are."""
    guard = Guard(4, 1.0, 0.5)
    assert [guard.noise_of(batch, False) for batch in (1, 4, 5)] == [0.0, 0.0, 1.0]
    assert [guard.noise_of(batch, True) for batch in (1, 4, 5)] == [0.0, 0.0, 0.5]


MOVED = st.dictionaries(st.integers(2, 64), st.tuples(st.floats(0, 100), st.floats(0, 100)), max_size=8)


@given(MOVED, MOVED, st.sampled_from([None, True, False]), st.sampled_from([None, 1, 64, 256]))
def test_findings_can_be_kept(short: Any, long: Any, slow: bool | None, chunk: int | None) -> None:
    """And are the same when they are read again."""
    found = Findings(short, long, slow, chunk)
    assert Findings.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@pytest.mark.parametrize(
    "change",
    [
        {"short": None},
        {"short": {"2": [0.0]}},
        {"short": {"two": [0.0, 0.0]}},
        {"short": {"1": [0.0, 0.0]}},
        {"long": {"2": [0.0, -1.0]}},
        {"long": {"2": [float("nan"), 0.0]}},
        {"slow": 2},
        {"chunk": 0},
        {"chunk": True},
        {"chunk": "64"},
        {"more": 1},
    ],
)
def test_damaged_findings_are_none(change: dict[str, object]) -> None:
    """They are measured again."""
    whole = Findings({2: (0.0, 0.0)}, {}, False, 1).to_dict()
    assert Findings.from_dict(whole) is not None
    assert Findings.from_dict({**whole, **change}) is None
    assert Findings.from_dict(change) is None
    assert Findings.from_dict(None) is None


@given(st.integers(0, 30), st.sampled_from([1, 2, 3, 8, 64]), st.sampled_from([9, 32]))
@settings(max_examples=30)
def test_a_probe_that_was_interrupted_goes_on(passes: int, exact: int, widest: int) -> None:
    """With what it has not compared yet; and then it says what an uninterrupted one says."""

    def stop(found: Findings) -> None:
        seen.append(Findings.from_dict(found.to_dict()))
        if len(seen) > passes:
            raise KeyboardInterrupt

    seen: list[Findings | None] = []
    expected = probe(BatchNoise(chain_logits(N_VOCAB, 3), exact, 0.5), [1, 2, 3, 4, 5], widest)
    with suppress(KeyboardInterrupt):
        probe(BatchNoise(chain_logits(N_VOCAB, 3), exact, 0.5), [1, 2, 3, 4, 5], widest, None, stop)
    early = seen[-1]
    assert early is not None
    partial = early.invariance(widest, 4096, 512)
    assert partial.width <= expected.width
    context = BatchNoise(chain_logits(N_VOCAB, 3), exact, 0.5)
    left, again = len(early.pending(widest, 4096)) + (early.chunk is None), list[Findings]()
    found = probe(context, [1, 2, 3, 4, 5], widest, early, again.append)
    assert (found.width, found.chunk) == (expected.width, expected.chunk)
    assert len(again) == left or found.width < widest  # once a width differs, few others are compared


def test_narrow_passes_are_proved_first() -> None:
    """In both caches: drafting can begin when a few comparisons are made."""
    seen: list[int] = []
    context = BatchNoise(chain_logits(N_VOCAB, 3), 64, 0.5)
    probe(context, [7, 8], 32, None, lambda found: seen.append(found.invariance(32, 4096, 512).width))
    assert seen == sorted(seen)
    assert seen[4] >= 4
    assert seen[-1] == 32


@given(st.binary(max_size=200), st.integers(1, 5))
def test_bytes_that_are_no_state_have_no_cells(data: bytes, times: int) -> None:
    """Nothing is raised, nothing is made up."""
    assert repeat_cells(data, times) is None
    assert repeat_cells(b"\xd8\x3c\x14\xaf\0\0\0\0" + data, times) is None
