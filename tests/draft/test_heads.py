"""Laws of prediction heads: what they have read does not depend on the way, and drafting with them changes no token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import localspec
from localspec.control.base import FixedDepth
from localspec.engine import Engine
from localspec.errors import DraftMismatchError, ModelFileError
from localspec.gguf.header import read_header
from localspec.llama.context import LlamaContext
from localspec.llama.heads import LlamaHeadContext
from localspec.llama.hidden_rows import HiddenRows
from localspec.llama.model import LlamaModel
from localspec.models.drafter_kinds import HEADS
from localspec.models.heads import has_heads, is_heads_alone
from localspec.models.pairing import find_drafter
from localspec.params import ContextParams
from tests.helpers.head_drafting import HeadDrafting
from tests.helpers.random_models import random_model
from tests.helpers.support import GREEDY, prefix_of

#: Architectures, and how many heads they have.
WITH_HEADS = {"qwen35": 1, "qwen35moe": 1, "qwen3next": 1, "glm4moe": 1, "step35": 2}
PARAMS = ContextParams(threads=1, batch=64)
TOKENS = [2, *np.random.default_rng(1).integers(5, 2000, 90).tolist()]
PROMPT = "Once there was a little owl who lived in a tall pine tree, and every night it looked at the moon. " * 2


class Made(NamedTuple):
    """A model with heads, and its file."""

    model: LlamaModel
    path: Path
    heads: int


@pytest.fixture(scope="module", params=WITH_HEADS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    heads = WITH_HEADS[request.param]
    path = random_model(tmp_path_factory.mktemp("models") / "made.gguf", request.param, heads=heads)
    model = LlamaModel(read_header(path), PARAMS, heads=True)
    yield Made(model, path, heads)
    model.close()


class Drafting(HeadDrafting):
    """A target and its heads."""

    def __init__(self, made: Made) -> None:
        target = LlamaContext(made.model, PARAMS, 128, keeps_rows=True)
        super().__init__(target, LlamaHeadContext(made.model, PARAMS, target))


@pytest.fixture
def drafting(made: Made) -> Iterator[Drafting]:
    found = Drafting(made)
    yield found
    found.close()


def fresh(made: Made, text: list[int], count: int = 4) -> list[int]:
    other = Drafting(made)
    found = other.guesses(text, count)
    other.close()
    return found


def test_guesses_are_those_of_heads_that_read_at_once(made: Made, drafting: Drafting) -> None:
    """After any number of guesses before, a token at a time or many, and after another text."""
    prefix = prefix_of(TOKENS[:20], GREEDY)
    for length, count in ((20, 3), (21, 1), (25, 4), (26, 0), (70, 2), (71, 4)):
        prefix.tokens.extend(TOKENS[len(prefix.tokens) : length])
        assert drafting.guesses(TOKENS[:length], count, prefix) == fresh(made, TOKENS[:length], count)
    other = [*TOKENS[:30], *TOKENS[50:60]]
    assert drafting.guesses(other) == fresh(made, other)
    assert drafting.guesses(TOKENS[:2]) == fresh(made, TOKENS[:2])


def test_chain_guesses_no_further_than_it_is_long(made: Made, drafting: Drafting) -> None:
    """One head goes on for ever."""
    assert len(drafting.guesses(TOKENS[:20], 9)) == (9 if made.heads == 1 else made.heads)


def test_lag_is_what_was_not_read(drafting: Drafting) -> None:
    """All of a new text, then the tokens since; the last one is read again for its row."""
    prefix = prefix_of(TOKENS[:20], GREEDY)
    drafting.target.decode(TOKENS[:19], "none")
    assert drafting.drafter.lag(prefix) == 20
    drafting.guesses(TOKENS[:20], 2, prefix)
    assert drafting.drafter.lag(prefix) == 1
    drafting.target.decode(TOKENS[19:22], "none")
    prefix.tokens.extend(TOKENS[20:23])
    assert drafting.drafter.lag(prefix) == 3 + (drafting.context.heads > 1)


def test_heads_go_on_where_rows_are_missing(made: Made, drafting: Drafting) -> None:
    """A restored cache has none: without a row there is no guess, and later the text before is left out."""
    drafting.target.decode(TOKENS[:30], "none")
    if made.model.header.architecture == "step35":
        pytest.skip("a restored sliding window lacks cells")
    drafting.target.restore(drafting.target.state(), TOKENS[:30])
    assert drafting.guesses(TOKENS[:31]) == []
    drafting.target.decode(TOKENS[30:33], "none")
    assert len(drafting.guesses(TOKENS[:34], 2)) == 2
    assert drafting.context.held[0] == 31


def test_heads_do_not_continue_other_drafts(drafting: Drafting) -> None:
    """They need the target's row."""
    drafting.target.decode(TOKENS[:19], "none")
    assert list(drafting.drafter.propose(prefix_of(TOKENS[:20], GREEDY), [7])) == []


def test_rows_are_kept_by_position() -> None:
    """Later rows replace those there; a gap begins anew."""
    rows = HiddenRows(2)
    rows.add(0, np.arange(10, dtype=np.float32).reshape(5, 2))
    rows.add(3, np.full((4, 2), 9, np.float32))
    assert (rows.first, rows.end) == (0, 7)
    assert rows.get(2, 5).tolist() == [[4, 5], [9, 9], [9, 9]]
    rows.cut(4)
    assert rows.end == 4
    rows.add(6, np.ones((1, 2), np.float32))
    assert (rows.first, rows.end) == (6, 7)
    rows.cut(0)
    assert (rows.first, rows.end) == (0, 0)


# Whole engines.


def answer(engine: Engine, **options: Any) -> tuple[int, ...]:
    return engine.generate(PROMPT, max_tokens=24, **options).tokens


@pytest.mark.parametrize("parallel", [1, 2])
def test_drafting_with_heads_changes_no_token(made: Made, parallel: int) -> None:
    """Alone and behind lookup, greedy and seeded; ``auto`` takes the heads."""
    with localspec.load(made.path, "none", threads=1, ctx_size=512) as engine:
        expected = [answer(engine, temperature=0), answer(engine, temperature=0.9, seed=4)]
    with localspec.load(made.path, "auto", threads=1, ctx_size=512, parallel=parallel) as engine:
        assert engine.drafters == ("ngram", "mtp")
        for control in (FixedDepth(3, only="mtp"), FixedDepth(6), engine.control):
            engine.control = control
            for _ in range(2):
                assert [answer(engine, temperature=0), answer(engine, temperature=0.9, seed=4)] == expected
        engine.control = FixedDepth(3, only="mtp")
        assert "mtp" in engine.generate(PROMPT, max_tokens=8, temperature=0).stats.by_drafter


def test_heads_are_named_and_found(made: Made, tmp_path: Path) -> None:
    """In the target's file by ``mtp``; in a file of their own beside the target, by name or ``auto``."""
    architecture = made.model.header.architecture
    assert architecture in HEADS
    trunk = random_model(tmp_path / "target.gguf", architecture)
    alone = random_model(tmp_path / "mtp-target.gguf", architecture, heads=made.heads, part="heads")
    assert [has_heads(read_header(path)) for path in (made.path, trunk, alone)] == [True, False, True]
    assert [is_heads_alone(read_header(path)) for path in (made.path, trunk, alone)] == [False, False, True]
    assert find_drafter(read_header(trunk), [alone]) == alone
    with pytest.raises(ModelFileError, match="heads alone"):
        localspec.load(alone)
    with localspec.load(trunk, "none", threads=1, ctx_size=256) as engine:
        expected = answer(engine, temperature=0)
    for draft in (alone, "mtp"):
        with localspec.load(trunk, draft, threads=1, ctx_size=256) as engine:
            assert engine.drafters == ("ngram", "mtp")
            engine.control = FixedDepth(3, only="mtp")
            assert answer(engine, temperature=0) == expected


def test_target_without_heads_says_so(tmp_path: Path) -> None:
    """And heads of another target are refused."""
    trunk = random_model(tmp_path / "target.gguf", "qwen35")
    with pytest.raises(DraftMismatchError, match="no prediction heads"):
        localspec.load(trunk, "mtp")
    other = random_model(tmp_path / "other.gguf", "qwen3next", heads=1, part="heads")
    with pytest.raises(DraftMismatchError, match="heads are those of 'qwen3next'"):
        localspec.load(trunk, other)
