"""Laws of the MTP assistant as drafter: one position, a chain of hidden rows, a confidence cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from support import N_VOCAB, SAMPLINGS, FakeMtp, one_hot, plain_tokens, prefix_of

from localspec.backends.scripted import chain_logits
from localspec.config import DraftParams, SamplingParams
from localspec.draft.base import Draft
from localspec.draft.mtp import MtpDrafter
from localspec.sampling import Row


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
    draft = MtpDrafter(context, DraftParams()).propose(mtp_prefix([3, 4, 5]), limit)
    assert draft == Draft(tuple(range(6, 6 + limit)), "mtp")
    assert context.steps == [(5 + i, 2, [10.0 + i, 20.0 + i, 30.0 + i, 40.0 + i]) for i in range(limit)]


def test_without_a_hidden_row_nothing_is_drafted() -> None:
    """Before the target has decoded anything there is nothing to go on."""
    context = FakeMtp(next_token)
    assert MtpDrafter(context, DraftParams()).propose(prefix_of([1, 2]), 4) == Draft((), "mtp")
    assert context.steps == []


def test_draft_ends_before_the_first_unsure_token() -> None:
    """The unsure token is not proposed, and no step follows it."""

    def unsure_after_two(token: int, position: int, hidden: NDArray[Any]) -> Row:
        return one_hot(token + 1, high=50.0 if hidden[0] < 12 else 0.5)

    context = FakeMtp(unsure_after_two)
    draft = MtpDrafter(context, DraftParams(p_min=0.6)).propose(mtp_prefix([3]), 6)
    assert draft.tokens == (4, 5)
    assert len(context.steps) == 3


def test_no_cut_with_p_min_zero() -> None:
    """Then a draft always has the length that is allowed."""
    context = FakeMtp(lambda token, *_: one_hot(token + 1, high=0.1))
    assert MtpDrafter(context, DraftParams(p_min=0.0)).propose(mtp_prefix([3]), 6).tokens == (4, 5, 6, 7, 8, 9)


@given(st.sampled_from(SAMPLINGS), st.integers(0, 20))
def test_samples_with_the_noise_of_the_target_s_positions(params: SamplingParams, seed: int) -> None:
    """An assistant as good as the target proposes exactly what the target will say."""
    logits = chain_logits(N_VOCAB, seed, order=1)
    context = FakeMtp(lambda token, *_: logits((token,)))
    draft = MtpDrafter(context, DraftParams(p_min=0.0)).propose(mtp_prefix([1, 2, 3], params), 5)
    assert list(draft.tokens) == plain_tokens(logits, [1, 2, 3], params, 5)


def test_prefix_s_hidden_row_is_left_alone() -> None:
    """It belongs to the loop."""
    prefix = mtp_prefix([1])
    MtpDrafter(FakeMtp(next_token), DraftParams()).propose(prefix, 3)
    assert prefix.hidden.tolist() == [10.0, 20.0, 30.0, 40.0]


def test_close_closes_the_context() -> None:
    """Twice is fine."""
    context = FakeMtp(next_token)
    drafter = MtpDrafter(context, DraftParams())
    drafter.close()
    drafter.close()
    assert context.closed
