"""Laws of several sequences in one cache of llama.cpp, on the built-in pair: each is as if it were alone."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from localspec.errors import BackendError
from localspec.gguf.header import read_header
from localspec.llama.context import LlamaContext
from localspec.llama.model import LlamaModel
from localspec.llama.mtp import LlamaMtpContext
from localspec.llama.sequences import LlamaSequences
from localspec.models.resolve import TINY_ASSISTANT, TINY_TARGET
from localspec.params import ContextParams
from localspec.protocols import Rows

PARAMS = ContextParams(threads=1)
COUNT = 4
#: Texts of all lengths, and the tokens that follow them.
TEXTS = [[2, *((7 * i + 3 * k) % 200 + 300 for i in range(20 + 90 * k))] for k in range(COUNT)]
NEXT = [[(11 * i + k) % 200 + 300 for i in range(8)] for k in range(COUNT)]


@pytest.fixture(scope="module")
def model() -> Iterator[LlamaModel]:
    loaded = LlamaModel(read_header(TINY_TARGET), PARAMS)
    yield loaded
    loaded.close()


@pytest.fixture
def sequences(model: LlamaModel) -> Iterator[LlamaSequences]:
    first = LlamaContext(model, PARAMS, 384, hidden=True, sequences=COUNT)
    yield LlamaSequences([first, *(first.neighbour(i) for i in range(1, COUNT))])
    first.close()


def fill(contexts: Sequence[LlamaContext]) -> None:
    for context, text in zip(contexts, TEXTS, strict=True):
        context.rewind(0)
        context.decode(text, "none")


@pytest.fixture(scope="module")
def alone(model: LlamaModel) -> list[list[Rows]]:
    """Rows of the next tokens of each text, one pass for each token in a context of its own."""
    context, found = LlamaContext(model, PARAMS, 384, hidden=True), []
    for text, after in zip(TEXTS, NEXT, strict=True):
        context.rewind(0)
        context.decode(text, "none")
        found.append([np.append(context.decode([token])[0], context.hidden()[0]) for token in after])
    context.close()
    return found


@pytest.mark.parametrize("widths", [[1, 1, 1, 1], [4, 4, 4, 4], [3, 1, 2, 3], [8, 2, 1, 5], [4, 0, 1, 2], [0, 2, 0, 2]])
def test_rows_are_those_of_a_run_alone(sequences: LlamaSequences, alone: list[list[Rows]], widths: list[int]) -> None:
    """Bit for bit, hidden rows too, however many rows the others have; and so is the token that follows."""
    fill(sequences.contexts)
    passes = [(NEXT[i][:n], "all") if n else None for i, n in enumerate(widths)]
    found = iter(sequences.decode(0, max(widths), passes))  # type: ignore[arg-type]
    rows = [next(found).copy() if n else np.empty((0, 0)) for n in widths]
    hidden = [context.hidden().copy() if n else None for context, n in zip(sequences.contexts, widths, strict=True)]
    for i, (context, n) in enumerate(zip(sequences.contexts, widths, strict=True)):
        assert context.tokens == TEXTS[i] + NEXT[i][:n]
        for j in range(n):
            assert (np.append(rows[i][j], hidden[i][j]) == alone[i][j]).all()  # type: ignore[index]
        if n < len(NEXT[i]):
            assert (context.decode([NEXT[i][n]])[0] == alone[i][n][: context.model.n_vocab]).all()


def test_the_last_rows_alone_may_be_outputs(sequences: LlamaSequences, alone: list[list[Rows]]) -> None:
    """As for tokens that a grammar demands, which need no row."""
    fill(sequences.contexts)
    found = sequences.decode(1, 4, [(NEXT[1][:4], 2), (NEXT[2][:3], "last")])
    n_vocab = sequences.contexts[0].model.n_vocab
    assert (found[0] == [row[:n_vocab] for row in alone[1][2:4]]).all()
    assert (found[1] == [alone[2][2][:n_vocab]]).all()


def test_any_history_leaves_the_rows_of_a_run_alone(sequences: LlamaSequences, alone: list[list[Rows]]) -> None:
    """Fused and single passes, rewinds and copies in any order."""
    dice = random.Random(1)
    contexts, n_vocab = sequences.contexts, sequences.contexts[0].model.n_vocab
    fill(contexts)
    for _ in range(60):
        first = dice.randrange(COUNT)
        chosen = range(first, dice.randrange(first, COUNT) + 1)
        for i in chosen:
            if len(contexts[i].tokens) > len(TEXTS[i]) + 5:
                contexts[i].rewind(len(TEXTS[i]) + dice.randrange(3))
        at = [len(contexts[i].tokens) - len(TEXTS[i]) for i in chosen]
        passes = [(NEXT[i][k : k + dice.randint(1, 2)], "all") for i, k in zip(chosen, at, strict=True)]
        found = sequences.decode(first, 3, passes)  # type: ignore[arg-type]
        for i, k, rows in zip(chosen, at, found, strict=True):
            assert all((row == alone[i][k + j][:n_vocab]).all() for j, row in enumerate(rows))
        source, target = dice.sample(range(COUNT), 2)
        if dice.random() < 0.3:
            sequences.copy(source, target, 2 + dice.randrange(10))
            assert contexts[target].tokens == contexts[source].tokens[: len(contexts[target].tokens)]
            contexts[target].rewind(0)
            contexts[target].decode(TEXTS[target], "none")


def test_a_copied_prefix_is_as_if_it_had_been_decoded(sequences: LlamaSequences, alone: list[list[Rows]]) -> None:
    contexts = sequences.contexts
    fill(contexts)
    contexts[3].decode(NEXT[3][:3])
    sequences.copy(3, 0, 200)
    assert contexts[0].tokens == TEXTS[3][:200]
    assert contexts[3].tokens == TEXTS[3] + NEXT[3][:3]
    for i, start in ((0, 200), (3, len(TEXTS[3]))):
        contexts[i].rewind(start)
        if start < len(TEXTS[3]):
            contexts[i].decode(TEXTS[3][start:], "none")
        rows = contexts[i].decode(NEXT[3][:2])
        assert (rows == [row[: rows.shape[1]] for row in alone[3][:2]]).all()


def test_a_state_is_restored_in_any_sequence(sequences: LlamaSequences, alone: list[list[Rows]]) -> None:
    """With the rows of the sequence that it was saved from; another model's bytes are refused."""
    contexts = sequences.contexts
    fill(contexts)
    state = contexts[2].state()
    contexts[0].rewind(5)
    contexts[0].restore(state, TEXTS[2])
    rows = contexts[0].decode(NEXT[2][:2])
    assert (rows == [row[: rows.shape[1]] for row in alone[2][:2]]).all()
    for i in (1, 3):
        rows = contexts[i].decode(NEXT[i][:1])
        assert (rows == [row[: rows.shape[1]] for row in alone[i][:1]]).all()
    with pytest.raises(BackendError, match="does not fit"):
        contexts[0].restore(state[:-1], TEXTS[2])
    assert contexts[0].tokens == []


def test_the_assistant_drafts_for_each_sequence(model: LlamaModel, sequences: LlamaSequences) -> None:
    """From the hidden rows of a fused pass, the rows that it has for one sequence alone."""
    assistant = LlamaModel(read_header(TINY_ASSISTANT), PARAMS)
    single = LlamaContext(model, PARAMS, 384, hidden=True)
    drafter, first = (
        LlamaMtpContext(assistant, PARAMS, single),
        LlamaMtpContext(assistant, PARAMS, sequences.contexts[0]),
    )
    drafters = [first, *(first.neighbour(i) for i in range(1, COUNT))]
    fill(sequences.contexts)  # after the assistant's contexts were made: that empties the target
    sequences.decode(0, 3, [(after[:1], "all") for after in NEXT])  # padded: the assistant must not see that
    for context, mine, text, after in zip(sequences.contexts, drafters, TEXTS, NEXT, strict=True):
        single.rewind(0)
        single.decode(text, "none")
        single.decode(after[:1])
        expected = drafter.step(after[1], len(text) + 1, single.hidden()[0].copy()).copy()
        assert (mine.step(after[1], len(text) + 1, context.hidden()[0].copy()) == expected).all()
    for made in (drafter, first, single, assistant):
        made.close()


def test_no_call_can_abort(sequences: LlamaSequences) -> None:
    """Too many rows, a full cache."""
    contexts = sequences.contexts
    with pytest.raises(BackendError, match="rows of several sequences"):
        sequences.decode(0, 20, [([300], "all")] * 4)
    contexts[1].decode([300] * 384, "none")
    contexts[1].decode([300] * (contexts[1]._native.cells - 385), "none")
    with pytest.raises(BackendError, match="cells"):
        sequences.decode(0, 2, [([300], "all"), ([300], "all")])
    contexts[1].rewind(10)
    assert len(sequences.decode(0, 2, [([300], "all"), ([300, 301], "all")])) == 2
    contexts[0].close()
    with pytest.raises(BackendError, match="closed"):
        sequences.decode(0, 1, [([300], "all")] * 2)
