"""Laws of the acceptance rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localspec.generation.accept import Accepted, accept
from localspec.generation.logprobs import token_logprobs
from localspec.params import SamplingParams
from localspec.sampling import Sampler
from localspec.testing import chain_logits
from tests.helpers.support import GREEDY, N_VOCAB, SAMPLINGS, plain_tokens, rows_of

END = 9

#: draft, what the target says at each row → tokens, how many of them were drafted.
TABLE = [
    ("no draft", [], [4], (4,), 0),
    ("all accepted, bonus", [1, 2, 3], [1, 2, 3, 4], (1, 2, 3, 4), 3),
    ("recovered at the first", [1, 2, 3], [5, 2, 3, 4], (5,), 0),
    ("recovered at the second", [1, 2, 3], [1, 5, 3, 4], (1, 5), 1),
    ("recovered at the last", [1, 2, 3], [1, 2, 5, 4], (1, 2, 5), 2),
    ("end token in the draft", [1, END, 3], [1, END, 3, 4], (1, END), 2),
    ("end token first in the draft", [END, 2], [END, 2, 4], (END,), 1),
    ("end token last in the draft", [1, END], [1, END, 4], (1, END), 2),
    ("end token recovered", [1, 2, 3], [1, END, 3, 4], (1, END), 1),
    ("end token as bonus", [1, 2], [1, 2, END], (1, 2, END), 2),
    ("end token without a draft", [], [END], (END,), 0),
    ("the same again later is not accepted", [1, 2, 3], [2, 1, 3, 4], (2,), 0),
]


@pytest.mark.parametrize(("case", "draft", "target", "tokens", "count"), TABLE, ids=[row[0] for row in TABLE])
def test_table(case: str, draft: list[int], target: list[int], tokens: tuple[int, ...], count: int) -> None:
    """Accepted, recovered and bonus tokens, written out."""
    found = accept(draft, rows_of(target), Sampler(GREEDY), [0] * 7, lambda token: token == END)
    assert found == Accepted(tokens, count)


@given(st.data(), st.sampled_from(SAMPLINGS), st.integers(0, 50))
def test_any_draft_gives_the_tokens_of_single_rows(data: st.DataObject, params: SamplingParams, seed: int) -> None:
    """The accepted tokens are the agreeing part of plain decoding's tokens, plus one."""
    logits = chain_logits(N_VOCAB, seed)
    prompt = [1, 2, 3]
    plain = plain_tokens(logits, prompt, params, 7)
    right = data.draw(st.integers(0, 6))
    wrong = data.draw(st.lists(st.integers(0, N_VOCAB - 1), max_size=6 - right))
    draft = plain[:right] + wrong
    tokens, rows = list(prompt), []
    for token in [None, *draft]:
        tokens += [] if token is None else [token]
        rows.append(logits(tuple(tokens)))
    found = accept(draft, np.array(rows), Sampler(params), prompt, lambda _: False)
    agreeing = next((i for i, (a, b) in enumerate(zip(draft, plain, strict=False)) if a != b), len(draft))
    assert found == Accepted(tuple(plain[: agreeing + 1]), agreeing)


@given(st.lists(st.integers(0, 9), max_size=6), st.lists(st.integers(0, 9), min_size=7, max_size=7))
def test_nothing_follows_an_end_token(draft: list[int], target: list[int]) -> None:
    """An end token is the last of its step, and what was accepted agrees with the draft."""
    found = accept(draft, rows_of(target[: len(draft) + 1]), Sampler(GREEDY), [], lambda token: token == END)
    assert END not in found.tokens[:-1]
    assert list(found.tokens[: found.accepted]) == draft[: found.accepted]
    ended = found.tokens[-1] == END and found.accepted == len(found.tokens)
    assert len(found.tokens) - found.accepted == (0 if ended else 1)


def test_position_counts_from_where_the_draft_begins() -> None:
    """Row i is sampled with the noise of position + i: the noise that plain decoding uses there."""
    asked: list[int] = []

    class Listening(Sampler):
        def choose(self, row: object, position: int) -> int:
            asked.append(position)
            return 1

    accept([1, 1, 1], rows_of([0, 0, 0, 0]), Listening(GREEDY), [0] * 40, lambda _: False)
    assert asked == [40, 41, 42, 43]


def test_no_row_after_the_first_difference_is_looked_at() -> None:
    """Rows past the recovered token cost nothing."""
    rows = rows_of([5, 2, 3])
    rows[1:] = np.nan
    assert accept([1, 2], rows, Sampler(GREEDY), [], lambda _: False) == Accepted((5,), 0)


@pytest.mark.parametrize("target", [[1, 2, 3], [1, 5, 3], [1, END, 3]], ids=["bonus", "recovered", "end"])
def test_every_token_has_its_log_probability(target: list[int]) -> None:
    """Of its own row, with that many others, however the step ends."""
    rows = rows_of(target)
    found = accept([1, 2], rows, Sampler(GREEDY), [0] * 7, lambda token: token == END, 2)
    assert found.logprobs == tuple(
        token_logprobs(row, token, 2) for row, token in zip(rows, found.tokens, strict=False)
    )
    assert len(found.logprobs) == len(found.tokens) > 0
