"""Laws of samplers under a constraint, and of their factory."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from localspec.errors import UsageError
from localspec.params import SamplingParams
from localspec.protocols import Mask
from localspec.sampling import Sampler
from localspec.sampling.sampler import _MAX_TRIES
from localspec.sampling.samplers import Samplers
from localspec.testing import ScriptedVocabulary
from tests.helpers.support import GREEDY

N = 40


class Only:
    """Constraint that allows some tokens; those below ``fitting`` fit the budget. Its ending is ``ending``."""

    def __init__(self, allowed: Sequence[int], fitting: int = N, ending: int = 3, n: int = N) -> None:
        self.mask = np.zeros(n, np.bool_)
        self.mask[list(allowed)] = True
        self.fitting, self.ending = fitting, ending
        self.tried: list[int] = []

    def allowed(self, tokens: Sequence[int], ahead: Sequence[int] = ()) -> Mask:
        return self.mask

    def fits(self, tokens: Sequence[int], ahead: Sequence[int], token: int) -> bool:
        self.tried.append(token)
        return token < self.fitting

    def ending_token(self, tokens: Sequence[int], ahead: Sequence[int]) -> int:
        return self.ending

    def forced(self, tokens: Sequence[int], ahead: Sequence[int] = ()) -> tuple[int, ...]:
        return ()

    def legal(self, tokens: Sequence[int], draft: Sequence[int]) -> int:
        return len(draft)


def row_of(n: int = N) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Later tokens are likelier."""
    return np.arange(n, dtype=np.float32)


def test_only_allowed_tokens_are_left() -> None:
    """With their logits; the row itself stays."""
    row = row_of()
    found = Sampler(GREEDY, Only([2, 5])).adjust(row, [1])
    assert found.tolist() == [x if i in (2, 5) else -math.inf for i, x in enumerate(row)]
    assert (row == row_of()).all()


def test_a_smaller_drafter_has_a_shorter_row() -> None:
    """What it lacks is left out."""
    found = Sampler(GREEDY, Only([2, 39])).adjust(row_of(30), [1])
    assert np.flatnonzero(found > -np.inf).tolist() == [2]


def test_a_constraint_outweighs_bias_and_impossible_tokens() -> None:
    """Bias is left out where it forbids all that is allowed, and then the row too."""
    biased = SamplingParams(0.0, logit_bias={2: -math.inf, 5: -math.inf})
    assert Sampler(biased, Only([2, 5])).pick(row_of(), [1]) == 5
    some = SamplingParams(0.0, logit_bias={5: -math.inf})
    assert Sampler(some, Only([2, 5])).pick(row_of(), [1]) == 2
    row = row_of()
    row[[2, 5]] = -np.inf
    assert Sampler(GREEDY, Only([2, 5])).pick(row, [1]) == 2


def test_choices_that_do_not_fit_the_budget_are_left_out() -> None:
    """One after the other, the likeliest first. The last of them that fits is taken."""
    constraint = Only(range(30), fitting=20)
    found = Sampler(GREEDY, constraint).adjust(row_of(), [1])
    assert constraint.tried == [*range(29, 18, -1)]
    assert np.flatnonzero(found > -np.inf).tolist() == [*range(20)]


def test_after_some_tries_the_answer_is_ended() -> None:
    """Sixteen. Only the ending's token is left, or none that the row has."""
    assert _MAX_TRIES == 16
    for fitting, left in ((15, 15), (14, 1)):
        constraint = Only(range(30), fitting=fitting)
        found = Sampler(GREEDY, constraint).adjust(row_of(), [1])
        assert len(constraint.tried) == 16
        assert (found > -np.inf).sum() == left
    assert found[3] == 0.0
    few = Only([4, 6], fitting=0)
    assert Sampler(GREEDY, few).pick(row_of(), [1]) == 3
    assert few.tried == [6, 4]
    for ending, last in ((N - 1, N - 1), (N, None)):
        gone = Sampler(GREEDY, Only([4], fitting=0, ending=ending)).adjust(row_of(), [1])
        assert np.flatnonzero(gone > -np.inf).tolist() == ([] if last is None else [last])


def test_a_constraint_counts_the_tokens_ahead() -> None:
    """The position is that behind them, so the noise is that of the token that will be chosen."""
    params = SamplingParams(1.0, 0, 1.0, 0.0, 7)
    flat = np.zeros(N, np.float32)
    for ahead in ([], [4], [4, 4]):
        constraint = Only(range(N))
        chosen = Sampler(params, constraint).pick(flat, [1, 2], ahead)
        assert constraint.tried == [chosen] == [Sampler(params).choose(flat, 2 + len(ahead))]


class Counted(ScriptedVocabulary):
    """Vocabulary that counts the looks at its pieces."""

    looks = 0

    def piece(self, token: int) -> bytes:
        self.looks += 1
        return super().piece(token)


def test_a_bias_names_tokens_of_the_vocabulary() -> None:
    """The last one is known, the next one refused."""
    samplers = Samplers(ScriptedVocabulary(50))
    samplers.check(SamplingParams(logit_bias={49: 1.0}))
    samplers.check(SamplingParams())
    with pytest.raises(UsageError, match=r"names token 50; this model's ids go from 0 to 49"):
        samplers.check(SamplingParams(logit_bias={1: 1.0, 50: 1.0}))


def test_sequence_breakers_are_looked_for_once() -> None:
    """And only where DRY needs them. Other breakers replace the last ones."""
    vocabulary = Counted(256)
    samplers = Samplers(vocabulary)
    dry = {"dry_multiplier": 1.0, "dry_sequence_breakers": ("\n",)}
    for params, looks in (
        (SamplingParams(dry_sequence_breakers=("\n",)), 0),
        (SamplingParams(dry_multiplier=1.0, dry_sequence_breakers=()), 0),
        (SamplingParams(**dry), 256), (SamplingParams(**dry), 256),
        (SamplingParams(**{**dry, "dry_sequence_breakers": (":",)}), 512), (SamplingParams(**dry), 768),
    ):  # fmt: skip
        sampler = samplers.make(params)
        assert vocabulary.looks == looks
    constraint = Only([1])
    assert samplers.make(GREEDY, constraint).constraint is constraint
    tokens, row = [65, 66, 10, 65, 66], np.zeros(256, np.float32)
    with_breaker = samplers.make(SamplingParams(0.0, **dry)).adjust(row, tokens)
    assert with_breaker[10] == 0.0
    without = samplers.make(SamplingParams(0.0, dry_multiplier=1.0, dry_sequence_breakers=())).adjust(row, tokens)
    assert without[10] < 0.0
    assert sampler.params.dry_sequence_breakers == ("\n",)
