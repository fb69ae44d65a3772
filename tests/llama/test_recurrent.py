"""Laws of recurrent states: how far they can be rewound, and that every way back gives the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from localspec.errors import BackendError
from localspec.gguf.header import read_header
from localspec.llama.context import LlamaContext
from localspec.llama.model import LlamaModel
from localspec.llama.saved_cells import add_checkpoint, split_checkpoint
from localspec.llama.sequences import LlamaSequences
from localspec.memory.estimate import recurrent_state
from localspec.params import ContextParams
from localspec.protocols import Rows
from tests.helpers.random_models import random_model

ROLLBACK, START = 4, 20
PARAMS = ContextParams(threads=1, batch=64, rollback=ROLLBACK)
TOKENS = [2, *np.random.default_rng(1).integers(5, 2000, 60).tolist()]
#: Architectures, and whether llama.cpp takes back tokens of their states.
BOUNDED = {"qwen35": True, "qwen35moe": True, "lfm2": True, "nemotron_h": True, "qwen3next": False, "mamba2": False}


class Made(NamedTuple):
    """A model, a context of it, and the row after each token of ``TOKENS`` without any way back."""

    model: LlamaModel
    context: LlamaContext
    rows: list[Rows]
    takes_back: bool


@pytest.fixture(scope="module", params=BOUNDED)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    path = random_model(tmp_path_factory.mktemp("models") / "made.gguf", request.param)
    model = LlamaModel(read_header(path), PARAMS)
    plain = LlamaContext(model, ContextParams(threads=1, batch=64, rollback=0), 128)
    rows = [plain.decode([token])[0].copy() for token in TOKENS]
    plain.close()
    context = LlamaContext(model, PARAMS, 128, sequences=2)
    yield Made(model, context, rows, BOUNDED[request.param])
    context.close()
    model.close()


@pytest.fixture
def begun(made: Made) -> Made:
    """The context holds ``START`` tokens and no checkpoint."""
    made.context.rewind(0)
    made.context.decode(TOKENS[:START], "none")
    return made


def goes_on(made: Made, context: LlamaContext | None = None) -> bool:
    """True if the next rows have the bits of single passes; some tokens are decoded."""
    context = context or made.context
    at = len(context.tokens)
    assert context.tokens == TOKENS[:at]
    rows = context.decode(TOKENS[at : at + 3])
    return all(np.array_equal(row, made.rows[at + i]) for i, row in enumerate(rows))


def test_bound_is_that_of_the_architecture(made: Made) -> None:
    """None where llama.cpp keeps no states of a pass."""
    assert made.context.rollback == (ROLLBACK if made.takes_back else 0)


@pytest.mark.parametrize("count", range(1, 8))
def test_every_bound_goes_back_to_the_same_bits(begun: Made, count: int) -> None:
    """A pass loses all tokens behind its first, up to the bound; further back everything is decoded again."""
    for back in range(count + 1):
        begun.context.rewind(0)
        begun.context.decode(TOKENS[:START], "none")
        begun.context.decode([*TOKENS[START : START + count - back], *[7] * back])
        wanted = START + count - back
        near = back == 0 or back <= min(begun.context.rollback, count - 1)
        assert begun.context.reach(wanted) == (wanted if near else 0)
        begun.context.rewind(wanted)
        assert len(begun.context.tokens) == (wanted if near else 0)
        assert goes_on(begun)


def test_several_rewinds_between_passes_are_one(begun: Made) -> None:
    """Each may be the last; only together they must stay within the bound."""
    begun.context.decode([*TOKENS[START : START + 2], *[7] * 4])
    for length in (START + 5, START + 4, START + 2):
        begun.context.rewind(length)
    assert len(begun.context.tokens) == (START + 2 if begun.takes_back else 0)
    assert goes_on(begun)


def test_rewind_returns_to_a_checkpoint(begun: Made) -> None:
    """To the last one that is not behind the wanted length; those behind it are forgotten."""
    context = begun.context
    context.mark()
    context.decode(TOKENS[START : START + 9], "none")
    context.mark()
    context.decode([7] * 20, "none")
    assert [context.reach(n) for n in (START + 12, START + 9, START + 8, START, START - 1)] == [
        START + 9, START + 9, START, START, 0,
    ]  # fmt: skip
    context.rewind(START + 12)
    assert len(context.tokens) == START + 9
    assert goes_on(begun)
    context.rewind(START + 1)
    assert len(context.tokens) == START
    assert goes_on(begun)
    assert context.reach(START + 2) == (START + 2 if begun.takes_back else START)


def test_brief_checkpoint_replaces_the_one_before(begun: Made) -> None:
    """Others stay."""
    context = begun.context
    context.mark()
    for end in (START + 5, START + 9):
        context.decode(TOKENS[len(context.tokens) : end], "none")
        context.mark(brief=True)
    context.decode([7] * 9, "none")
    assert [context.reach(START + n) for n in (9, 6, 0)] == [START + 9, START, START]
    context.rewind(START + 10)
    assert goes_on(begun)


def test_interrupted_pass_leaves_nothing_wrong(begun: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it stopped nobody knows: a checkpoint is returned to, or all is forgotten."""
    context = begun.context
    for marked in (False, True):
        if marked:
            context.rewind(0)
            context.decode(TOKENS[:START], "none")
            context.mark()
        context.decode(TOKENS[START : START + 2], "none")
        with monkeypatch.context() as patch:
            patch.setattr(context._native, "rows", interrupt)
            with pytest.raises(KeyboardInterrupt):
                context.decode([7] * 3)
        context.rewind(len(context.tokens))
        assert len(context.tokens) == (START if marked else 0)
        assert goes_on(begun)


def interrupt(*_: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize("back", [0, 2])
def test_saved_state_goes_on_with_the_same_bits(begun: Made, back: int) -> None:
    """Also one that was saved with a rewind not carried out; it can be rewound to nothing else."""
    context = begun.context
    context.decode([*TOKENS[START : START + 3], *[7] * back])
    context.rewind(START + 3)
    held = list(context.tokens)
    if not held:
        context.decode(TOKENS[:START], "none")
        held = TOKENS[:START]
    state = context.state()
    context.decode([9] * 5)
    context.restore(state, held)
    assert context.reach(len(held) - 1) == 0
    assert goes_on(begun)


def test_checkpoint_is_saved_with_a_state(begun: Made) -> None:
    """A restored state returns to it. A damaged one is refused with the state."""
    context = begun.context
    context.mark()
    held = [*TOKENS[: START + 6]]
    context.decode(held[START:], "none")
    state = context.state()
    context.rewind(0)
    context.decode([9] * 5)
    context.restore(state, held)
    assert context.reach(START + 2) == START
    assert goes_on(begun)
    context.restore(state, held)
    context.rewind(START + 2)
    assert len(context.tokens) == START
    assert goes_on(begun)
    alone, length, checkpoint = split_checkpoint(state)
    for n, bad in ((length, checkpoint[:-4]), (length + 1, checkpoint), (length, checkpoint[40:])):
        with pytest.raises(BackendError, match="does not fit"):
            context.restore(add_checkpoint(alone, n, bad), held)


def test_damaged_state_is_refused(begun: Made) -> None:
    """Cut, longer, or of other tokens; llama.cpp may abort on it. The context can be used afterwards."""
    state = begun.context.state()
    for bad, n in ((state[:-4], START), (state + b"\0" * 8, START), (state, START - 1), (state[:40], START)):
        with pytest.raises(BackendError, match="does not fit"):
            begun.context.restore(bad, TOKENS[:n])
        assert begun.context.tokens == []
        assert goes_on(begun)


def test_copied_sequence_goes_on_by_itself(begun: Made) -> None:
    """From a rewind that was not carried out, and back at a checkpoint; the source is not changed."""
    context, other = begun.context, begun.context.neighbour(1)
    sequences = LlamaSequences([context, other])
    context.mark()
    context.decode([*TOKENS[START : START + 3], 7, 7])
    context.rewind(START + 3)
    length = len(context.tokens)
    sequences.copy(0, 1, length)
    assert goes_on(begun, other)
    assert goes_on(begun)
    sequences.copy(0, 1, START + 1)
    assert len(other.tokens) == START
    assert goes_on(begun, other)
    assert goes_on(begun)
    other.rewind(0)


def test_size_is_that_of_the_file_s_numbers(begun: Made) -> None:
    """Beside some bytes for each layer."""
    recurrent = begun.context._recurrent
    assert recurrent is not None
    assert 0 < len(recurrent.saved()) - recurrent_state([begun.model.header]) < 200
