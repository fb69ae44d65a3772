"""Laws of the separate draft model: its cache follows the text, and nothing in it is decoded twice."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localspec.draft.base import common_length
from localspec.draft.model import ModelDrafter
from localspec.params import SamplingParams
from localspec.protocols import Outputs, Rows
from localspec.testing import Logits, ScriptedContext, ScriptedVocabulary, chain_logits, scripted_engine
from tests.helpers.support import N_VOCAB, SAMPLINGS, drafted, plain_tokens, prefix_of

PROMPT = [1, 2, 3, 4, 5]


class Recording(ScriptedContext):
    """Remembers what was decoded where."""

    def __init__(self, logits: Logits, n_vocab: int = N_VOCAB, batch: int = 512) -> None:
        super().__init__(logits, n_vocab, batch=batch)
        self.passes: list[tuple[int, tuple[int, ...]]] = []

    def decode(self, tokens: Sequence[int], outputs: Outputs = "all") -> Rows:
        self.passes.append((len(self.tokens), tuple(tokens)))
        return super().decode(tokens, outputs)

    @property
    def count(self) -> int:
        return sum(len(tokens) for _, tokens in self.passes)


def drafting(logits: Logits | None = None, batch: int = 512, n_vocab: int = N_VOCAB) -> tuple[ModelDrafter, Recording]:
    context = Recording(logits or chain_logits(N_VOCAB, 0), batch=batch)
    return ModelDrafter(context, batch, n_vocab), context


@given(st.integers(1, 12), st.sampled_from(SAMPLINGS), st.integers(0, 20))
def test_draft_is_what_the_drafter_would_write(limit: int, params: SamplingParams, seed: int) -> None:
    """With no confidence cut it is the small model's own plain decoding, with the noise of the target's positions."""
    logits = chain_logits(N_VOCAB, seed)
    drafter, _ = drafting(logits)
    draft = drafted(drafter, prefix_of(PROMPT, params), limit)
    assert list(draft.tokens) == plain_tokens(logits, PROMPT, params, limit)
    assert draft.drafter == "model"


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6), st.booleans()), max_size=12), st.integers(0, 20))
def test_nothing_in_the_cache_is_decoded_twice(steps: list[tuple[int, int, bool]], seed: int) -> None:
    """Over any run of drafts, part accepted, each pass starts where the cache and the text part."""
    drafter, context = drafting(chain_logits(N_VOCAB, seed))
    prefix = prefix_of(PROMPT)
    for limit, agreed, observes in steps:
        shared = min(common_length(context.tokens, prefix.tokens), len(prefix.tokens) - 1)
        before = len(context.passes)
        draft = drafted(drafter, prefix, limit)
        passes = context.passes[before:]
        assert passes[0] == (shared, tuple(prefix.tokens[shared:]))
        assert [tokens for _, tokens in passes[1:]] == [(token,) for token in draft.tokens[:-1]]
        assert context.tokens == [*prefix.tokens, *draft.tokens[:-1]]
        accepted = draft.tokens[:agreed]
        prefix.tokens.extend([*accepted, (draft.tokens[len(accepted)] + 1) % N_VOCAB if agreed < limit else 7])
        if observes:
            drafter.observe(prefix)


def test_full_acceptance_costs_two_tokens() -> None:
    """The last draft token, which it never decoded, and the bonus token."""
    drafter, context = drafting()
    prefix = prefix_of(PROMPT)
    prefix.tokens.extend([*drafted(drafter, prefix, 4).tokens, 9])
    context.passes.clear()
    drafted(drafter, prefix, 1)
    assert context.passes == [(len(PROMPT) + 3, tuple(prefix.tokens[-2:]))]


def test_rejection_rewinds_to_the_difference() -> None:
    """Two of four accepted: the recovered token is all that is decoded."""
    drafter, context = drafting()
    prefix = prefix_of(PROMPT)
    draft = drafted(drafter, prefix, 4).tokens
    recovered = (draft[2] + 1) % N_VOCAB
    prefix.tokens.extend([*draft[:2], recovered])
    context.passes.clear()
    drafted(drafter, prefix, 1)
    assert context.passes == [(len(PROMPT) + 2, (recovered,))]


def test_same_prefix_again_decodes_its_last_token_only() -> None:
    """The logits after the last token need a pass; the rest is there."""
    drafter, context = drafting()
    first = drafted(drafter, prefix_of(PROMPT), 3)
    context.passes.clear()
    assert drafted(drafter, prefix_of(PROMPT), 3) == first
    assert context.passes[0] == (len(PROMPT) - 1, (PROMPT[-1],))


def test_new_conversation_reuses_what_it_shares() -> None:
    """Another prompt with the same beginning decodes from the first difference."""
    drafter, context = drafting()
    drafted(drafter, prefix_of([*PROMPT, 6, 7]), 2)
    context.passes.clear()
    drafted(drafter, prefix_of([*PROMPT, 8, 9, 10]), 1)
    assert context.passes == [(len(PROMPT), (8, 9, 10))]


def test_draft_never_depends_on_what_was_drafted_before() -> None:
    """A drafter with a past proposes as a new one does."""
    logits = chain_logits(N_VOCAB, 3, order=50)
    drafter, _ = drafting(logits)
    for tokens in ([1, 2, 3], [1, 2, 3, 4, 4], [1, 2, 9], [5], [1, 2, 3]):
        fresh, _ = drafting(logits)
        assert drafted(drafter, prefix_of(tokens), 5) == drafted(fresh, prefix_of(tokens), 5)


def test_nothing_is_decoded_before_it_is_asked() -> None:
    """Not even a prompt: a drafter that does not pay costs nothing."""
    drafter, context = drafting()
    prefix = prefix_of([i % N_VOCAB for i in range(500)])
    drafter.observe(prefix)
    assert drafter.lag(prefix) == 500
    assert context.passes == []


@given(st.lists(st.integers(1, 9), max_size=5), st.integers(0, 5), st.integers(1, 4), st.integers(0, 20))
def test_goes_on_from_another_s_draft(ahead: list[int], own: int, limit: int, seed: int) -> None:
    """It treats the draft as text, and does not decode again the part that it guessed itself."""
    logits = chain_logits(N_VOCAB, seed, order=50)
    drafter, context = drafting(logits)
    prefix = prefix_of(PROMPT)
    ahead = [*drafted(drafter, prefix, own).tokens, *ahead]
    lag, before = drafter.lag(prefix, ahead), context.count
    found = drafted(drafter, prefix, limit, ahead)
    assert list(found.tokens) == plain_tokens(logits, [*PROMPT, *ahead], SAMPLINGS[0], limit)
    assert context.count - before == lag + limit - 1
    assert lag <= len(PROMPT) + len(ahead) if not own else lag <= max(1, len(ahead) - own + 2)


def test_gap_longer_than_a_batch_is_decoded_in_parts() -> None:
    """Also when nothing was observed."""
    drafter, context = drafting(batch=64)
    drafted(drafter, prefix_of([1] * 200), 1)
    assert [len(tokens) for _, tokens in context.passes] == [64, 64, 64, 8]


def test_confidence_is_the_probability_of_the_token() -> None:
    """At temperature 1, of the drafter's own row."""
    logits = chain_logits(N_VOCAB, 5, scale=4.0)
    for start in range(N_VOCAB):
        drafter, _ = drafting(logits)
        tokens = [start]
        for guess in islice(drafter.propose(prefix_of(tokens)), 6):
            assert guess.confidence == pytest.approx(_probability(logits, tokens, guess.token), rel=1e-4)
            tokens.append(guess.token)
        assert len(tokens) == 7


def _probability(logits: Logits, tokens: list[int], token: int) -> float:
    row = logits(tuple(tokens)).astype(np.float64)
    return float(np.exp(row[token]) / np.exp(row).sum())


def test_a_generation_decodes_each_token_of_the_text_once() -> None:
    """End to end: a drafter that is always right decodes the text and nothing else."""
    target = chain_logits(N_VOCAB, 1, scale=6.0)
    drafter, context = drafting(target)
    with scripted_engine(target, [drafter], vocabulary=ScriptedVocabulary(N_VOCAB)) as engine:
        done = engine.generate("abcdefgh", max_tokens=100, temperature=0)
    assert done.stats.acceptance == 1.0
    assert context.count <= 8 + 100


def test_close_closes_the_context() -> None:
    """Twice is fine."""
    drafter, context = drafting()
    drafter.close()
    drafter.close()
    assert context.closed


def test_token_that_only_the_target_has_is_not_drafted_after() -> None:
    """A padded target may choose a token for which the drafter has no row: it drafts again after the next text."""
    drafter, context = drafting(n_vocab=20)
    prefix = prefix_of([*PROMPT, 22])
    assert drafted(drafter, prefix, 3).tokens == ()
    drafter.observe(prefix_of([22] * 100))
    assert context.passes == []
    assert drafted(drafter, prefix_of(PROMPT), 3).tokens


@given(st.sampled_from(SAMPLINGS), st.integers(0, 20))
def test_token_that_the_target_lacks_is_never_proposed(params: SamplingParams, seed: int) -> None:
    """A drafter with a larger vocabulary keeps to the common part."""
    drafter, _ = drafting(chain_logits(N_VOCAB, seed), n_vocab=7)
    assert all(token < 7 for token in drafted(drafter, prefix_of([1, 2], params), 8).tokens)


def test_emptied_text_empties_the_cache() -> None:
    """A drafter gets an empty text from ``forget``."""
    drafter, context = drafting()
    drafted(drafter, prefix_of(PROMPT), 2)
    drafter.observe(prefix_of([]))
    assert context.tokens == []
