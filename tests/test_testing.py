"""Laws of the fake that ships: as strict as llama.cpp, and deterministic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localspec.errors import BackendError
from localspec.testing import (
    ScriptedContext,
    ScriptedDrafter,
    ScriptedVocabulary,
    chain_logits,
    script_logits,
    scripted_engine,
)
from tests.helpers.support import N_VOCAB, drafted, prefix_of

LOGITS = chain_logits(N_VOCAB, 1)


def context(**options: int) -> ScriptedContext:
    return ScriptedContext(LOGITS, N_VOCAB, **options)


@given(st.lists(st.integers(0, N_VOCAB - 1), min_size=1, max_size=12), st.data())
def test_any_batches_give_the_rows_of_one(tokens: list[int], data: st.DataObject) -> None:
    """The split of a text into passes does not change its rows."""
    cuts = sorted(data.draw(st.sets(st.integers(1, len(tokens)))) | {len(tokens)})
    whole, parts, start = context().decode(tokens), context(), 0
    for end in cuts:
        rows = parts.decode(tokens[start:end])
        assert rows.tolist() == whole[start:end].tolist()
        start = end
    assert parts.tokens == tokens


def test_outputs_are_all_last_or_none() -> None:
    """With the shapes of the real context."""
    for outputs, n in (("all", 3), ("last", 1), ("none", 0)):
        assert context().decode([1, 2, 3], outputs).shape == (n, N_VOCAB)  # type: ignore[arg-type]


def test_rows_die_at_the_next_decode() -> None:
    """A row that was kept instead of copied is not a number any more."""
    target = context()
    rows = target.decode([1])
    target.decode([2])
    assert np.isnan(rows).all()


def test_rewind_forgets() -> None:
    """Later rows are those of the shorter text."""
    target = context()
    target.decode([1, 2, 3, 4])
    target.rewind(2)
    assert target.tokens == [1, 2]
    assert target.decode([5]).tolist() == context().decode([1, 2, 5])[-1:].tolist()


@pytest.mark.parametrize("tokens", [[], [-1], [N_VOCAB], [0] * 600])
def test_refuses_what_llama_cpp_would_abort_on(tokens: list[int]) -> None:
    """An empty batch, ids outside the vocabulary, more than a batch."""
    with pytest.raises(BackendError):
        context().decode(tokens)


def test_refuses_more_than_the_context() -> None:
    """A few cells over its size are for the last draft."""
    target = context(n_ctx=10)
    target.decode([0] * 74, "none")
    with pytest.raises(BackendError):
        target.decode([0])


def test_closed_context_is_refused() -> None:
    """For every call; closing twice is allowed."""
    target = context()
    target.close()
    target.close()
    with pytest.raises(BackendError, match="closed"):
        target.decode([1])


def test_script_is_said_from_its_start() -> None:
    """Its last token repeats."""
    logits = script_logits([5, 6], N_VOCAB, 3)
    assert [int(logits((0,) * n).argmax()) for n in (3, 4, 5, 9)] == [5, 6, 6, 6]


def test_chain_depends_on_the_last_tokens_only() -> None:
    """It also depends on its seed."""
    assert LOGITS((9, 1, 2)).tolist() == LOGITS((1, 2)).tolist()
    assert LOGITS((1, 2)).tolist() != LOGITS((2, 2)).tolist()
    assert LOGITS((1, 2)).tolist() != chain_logits(N_VOCAB, 2)((1, 2)).tolist()


@given(st.text())
def test_vocabulary_of_bytes_is_its_own_inverse(text: str) -> None:
    """For every text."""
    vocabulary = ScriptedVocabulary()
    tokens = vocabulary.tokenize(text, add_special=True)
    assert b"".join(map(vocabulary.piece, tokens)) == text.encode()


def test_drafter_keeps_to_its_limit_and_remembers() -> None:
    """Its script may be longer."""
    drafter = ScriptedDrafter(lambda tokens: [len(tokens)] * 9)
    assert drafted(drafter, prefix_of([1, 2]), 3).tokens == (2, 2, 2)
    drafter.observe(prefix_of([1, 2]))
    assert drafter.observed == [2]


def test_example_of_the_module_s_docstring_works() -> None:
    """Up to the size of the vocabulary, which must hold the prompt's bytes."""
    engine = scripted_engine(chain_logits(256, seed=1), drafters=[ScriptedDrafter(lambda tokens: [1, 2, 3])])
    assert len(engine.generate("abc", max_tokens=8, temperature=0).tokens) == 8


def test_example_of_the_module_s_docstring_works_as_written() -> None:
    """A newcomer copies it."""
    engine = scripted_engine(chain_logits(n_vocab=32, seed=1), drafters=[ScriptedDrafter(lambda tokens: [1, 2, 3])])
    assert len(engine.generate("abc", max_tokens=8, temperature=0).tokens) == 8
