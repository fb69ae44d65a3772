"""Laws of the MTP assistant as drafter: one position, a chain of hidden rows, a confidence cut."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from localspec.draft.base import Draft
from localspec.draft.mtp import MtpDrafter
from localspec.params import SamplingParams
from localspec.sampling import Row
from localspec.testing import chain_logits
from tests.helpers.support import N_VOCAB, SAMPLINGS, FakeMtp, drafted, one_hot, plain_tokens, prefix_of


def next_token(token: int, position: int, hidden: NDArray[Any]) -> Row:
    return one_hot((token + 1) % N_VOCAB)


def mtp_prefix(tokens: list[int], params: SamplingParams = SAMPLINGS[0]) -> Any:
    prefix = prefix_of(tokens, params)
    prefix.hidden = np.array([10.0, 20.0, 30.0, 40.0], np.float32)
    return prefix


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_position_is_constant_and_hidden_rows_chain(limit: int) -> None:
    """Every step is at the length of the target's cache; each takes the row that the one before gave."""
    context = FakeMtp(next_token)
    draft = drafted(MtpDrafter(context), mtp_prefix([3, 4, 5]), limit)
    assert (draft.tokens, draft.drafter) == (tuple(range(6, 6 + limit)), "mtp")
    assert context.steps == [(5 + i, 2, [10.0 + i, 20.0 + i, 30.0 + i, 40.0 + i]) for i in range(limit)]


def test_without_a_hidden_row_nothing_is_drafted() -> None:
    """Before the target has decoded anything there is nothing to go on."""
    context = FakeMtp(next_token)
    assert drafted(MtpDrafter(context), prefix_of([1, 2]), 4) == Draft()
    assert context.steps == []


def test_each_guess_is_made_when_it_is_asked_for() -> None:
    """With its confidence; no step is made ahead."""

    def unsure_after_two(token: int, position: int, hidden: NDArray[Any]) -> Row:
        return one_hot(token + 1, high=50.0 if hidden[0] < 12 else 0.5)

    context = FakeMtp(unsure_after_two)
    for made, guess in enumerate(islice(MtpDrafter(context).propose(mtp_prefix([3])), 4), 1):
        assert len(context.steps) == made
        assert (guess.confidence > 0.9) == (made <= 2)
    assert made == 4


def test_it_does_not_go_on_from_another_s_tokens() -> None:
    """There is no hidden row to go on from."""
    context = FakeMtp(next_token)
    assert drafted(MtpDrafter(context), mtp_prefix([3]), 4, [4]) == Draft()
    assert context.steps == []


@given(st.sampled_from(SAMPLINGS), st.integers(0, 20))
def test_samples_with_the_noise_of_the_target_s_positions(params: SamplingParams, seed: int) -> None:
    """An assistant with the target's own logits proposes exactly the target's tokens."""
    logits = chain_logits(N_VOCAB, seed, order=1)
    context = FakeMtp(lambda token, *_: logits((token,)))
    draft = drafted(MtpDrafter(context), mtp_prefix([1, 2, 3], params), 5)
    assert list(draft.tokens) == plain_tokens(logits, [1, 2, 3], params, 5)


def test_prefix_s_hidden_row_is_left_alone() -> None:
    """It belongs to the loop."""
    prefix = mtp_prefix([1])
    drafted(MtpDrafter(FakeMtp(next_token)), prefix, 3)
    assert prefix.hidden.tolist() == [10.0, 20.0, 30.0, 40.0]


def test_close_closes_the_context() -> None:
    """Twice is fine."""
    context = FakeMtp(next_token)
    drafter = MtpDrafter(context)
    drafter.close()
    drafter.close()
    assert context.closed
