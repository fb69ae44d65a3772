"""Laws of the probe of passes of any width: what it finds, and that it goes on after an interrupt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localspec.llama.saved_cells import repeat_cells
from localspec.probe.batch_invariance import Findings, Invariance, probe
from localspec.protocols import Outputs, Rows
from localspec.testing import Logits, ScriptedContext, chain_logits
from tests.helpers.support import N_VOCAB


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
    """It also tells how far logits of wider ones differ."""
    found = probe(BatchNoise(chain_logits(N_VOCAB, 3), exact, 0.5), [1, 2, 3, 4, 5])
    assert (found.width, found.exact) == (exact, False)
    assert 0.2 < found.difference <= 0.25


@pytest.mark.parametrize("widest", [2, 5, 9, 32, 64])
def test_probe_of_an_exact_context(widest: int) -> None:
    """Every width, and nothing left in the cache."""
    context = BatchNoise(chain_logits(N_VOCAB, 3), 64, 0.5)
    assert probe(context, [7, 8], widest) == Invariance(widest, widest, 0.0)
    assert context.tokens == []
    assert {2, widest} <= set(context.decoded)


MOVED = st.dictionaries(st.integers(2, 64), st.floats(0, 100), max_size=8)


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
        {"short": {"two": 0.0}},
        {"short": {"1": 0.0}},
        {"long": {"2": -1.0}},
        {"long": {"2": float("nan")}},
        {"slow": 2},
        {"chunk": 0},
        {"chunk": True},
        {"chunk": "64"},
        {"more": 1},
    ],
)
def test_damaged_findings_are_none(change: dict[str, object]) -> None:
    """They are measured again."""
    whole = Findings({2: 0.0}, {}, False, 1).to_dict()
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
