"""Laws of the trimmed drafter's context: the target's ids, the whole model's logits or −inf, and the same output."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gguf_convert
import localspec
from localspec.control.base import FixedDepth
from localspec.draft import trimmed
from localspec.draft.model import ModelDrafter
from localspec.draft.trimmed import TrimmedContext
from localspec.errors import DraftMismatchError, ModelFileError
from localspec.params import SamplingParams
from localspec.protocols import Outputs, Rows, output_rows
from localspec.testing import Logits, ScriptedContext, ScriptedVocabulary, chain_logits, scripted_engine
from tests.helpers.support import N_VOCAB, SAMPLINGS, options_of
from tests.helpers.trim_models import KEEP, TEXT, whole_model

KEPT = np.array([0, 2, 3, 5, 8, 13, 21], np.int32)


class Inner(ScriptedContext):
    """Gives the kept logits; what its head reads are the logits of all tokens, so that the head is the identity."""

    def decode(self, tokens: Sequence[int], outputs: Outputs = "all") -> Rows:
        self.read = super().decode(tokens, "all")
        wanted = output_rows(outputs, len(tokens))
        return self.read[len(tokens) - wanted :, KEPT]

    def hidden(self) -> Rows:
        return self.read


def head(tokens: Sequence[int]) -> Rows:
    return np.eye(N_VOCAB, dtype=np.float32)[list(tokens)]


def trimmed_context(logits: Logits, softcap: float = 0.0) -> TrimmedContext:
    return TrimmedContext(Inner(logits, N_VOCAB), KEPT, N_VOCAB, head, softcap)


@given(
    st.lists(st.tuples(st.lists(st.integers(0, N_VOCAB - 1), min_size=1, max_size=5), st.integers(0, 5)), max_size=8),
    st.integers(0, 20),
)
def test_rows_are_the_whole_models_where_it_can_speak(steps: list[tuple[list[int], int]], seed: int) -> None:
    """The kept tokens and those of the text, over any run of passes and rewinds; all others are impossible."""
    logits = chain_logits(N_VOCAB, seed)
    context, seen = trimmed_context(logits), set(KEPT.tolist())
    for tokens, back in steps:
        before = list(context.tokens)
        rows = context.decode(tokens)
        seen |= set(tokens)
        said, others = sorted(seen), sorted(set(range(N_VOCAB)) - seen)
        assert rows.shape == (len(tokens), N_VOCAB)
        for i, row in enumerate(rows):
            assert np.array_equal(row[said], logits((*before, *tokens[: i + 1]))[said])
            assert (row[others] == -np.inf).all()
        assert context.tokens == [*before, *tokens]
        context.rewind(max(0, len(context.tokens) - back))
        assert len(context.tokens) == max(0, len(before) + len(tokens) - back)


@pytest.mark.parametrize(("outputs", "count"), [("all", 4), ("last", 1), ("none", 0), (2, 2)])
def test_as_many_rows_as_were_asked_for(outputs: Outputs, count: int) -> None:
    """The last ones."""
    logits = chain_logits(N_VOCAB, 1)
    rows = trimmed_context(logits).decode([1, 2, 3, 4], outputs)
    assert rows.shape == (count, N_VOCAB)
    for i, row in enumerate(rows):
        assert row[1] == logits((1, 2, 3, 4)[: 5 - count + i])[1]


def test_the_latest_rare_tokens_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """When there are more than have room the oldest go, and are impossible again; they come back when they are read."""
    monkeypatch.setattr(trimmed, "_MOST", 3)
    logits = chain_logits(N_VOCAB, 2)
    context = trimmed_context(logits)
    context.decode([1, 4, 6, 7, 9], "none")
    for fed, there, gone in (([10], {7, 9, 10}, {1, 4, 6}), ([4, 9], {4, 9, 10}, {6, 7}), ([11, 12], {4, 11, 12}, {9})):
        row = context.decode(fed)[-1]
        whole = logits(tuple(context.tokens))
        assert all(row[token] == whole[token] for token in there)
        assert all(row[token] == -np.inf for token in gone)


def test_a_soft_cap_holds_for_rare_tokens_as_well() -> None:
    """The architecture's cap applies to kept and other tokens alike."""
    logits = chain_logits(N_VOCAB, 3, scale=50.0)
    row = trimmed_context(logits, 30.0).decode([1])[0]
    assert row[1] == pytest.approx(30.0 * np.tanh(logits((1,))[1] / 30.0), rel=1e-5)


@settings(max_examples=20)
@given(st.sampled_from(SAMPLINGS), st.integers(0, 20))
def test_the_output_is_that_of_plain_decoding(params: SamplingParams, seed: int) -> None:
    """Tokens that a trimmed drafter lacks come from the target."""
    target = chain_logits(N_VOCAB, seed, scale=4.0)
    vocabulary = ScriptedVocabulary(N_VOCAB)
    options: dict[str, Any] = {**options_of(params), "max_tokens": 24}
    with scripted_engine(target, vocabulary=vocabulary) as engine:
        expected = engine.generate("abcd", **options).tokens
    drafter = ModelDrafter(trimmed_context(target), 512, N_VOCAB)
    with scripted_engine(target, [drafter], vocabulary=vocabulary) as engine:
        assert engine.generate("abcd", **options).tokens == expected


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A model, itself trimmed, and another model trimmed."""
    folder = tmp_path_factory.mktemp("trimmed")
    first, second = whole_model(folder), whole_model(folder, seed=1)
    for whole in (first, second):
        gguf_convert.trim(whole, whole.with_suffix(".t.gguf"), KEEP)
    return first, first.with_suffix(".t.gguf"), second.with_suffix(".t.gguf")


@pytest.mark.parametrize("options", [{"temperature": 0}, {"temperature": 1.5, "top_k": 0, "top_p": 1.0, "seed": 3}])
def test_a_real_trimmed_drafter_changes_nothing(models: tuple[Path, Path, Path], options: dict[str, Any]) -> None:
    """With a text of kept tokens and others; for a drafter that is the target but for its head, and for another."""
    target, own, other = models
    with localspec.load(target, "none", ctx_size=256, threads=1) as engine:
        expected = engine.generate(TEXT, max_tokens=40, **options).tokens
    counts = []
    for drafter in (own, other):
        with localspec.load(target, drafter, ctx_size=256, threads=1) as engine:
            engine.control = FixedDepth()  # drafts also where it does not pay
            done = engine.generate(TEXT, max_tokens=40, **options)
        assert done.tokens == expected
        counts.append(done.stats.by_drafter["model"])
    assert all(count.proposed > 20 for count in counts)
    assert counts[0].accepted > counts[1].accepted


def test_a_trimmed_drafter_goes_with_its_own_vocabulary_only(models: tuple[Path, Path, Path]) -> None:
    """It cannot be a target."""
    with pytest.raises(DraftMismatchError, match="cannot draft for"):
        localspec.load("tiny", models[1], ctx_size=256)
    with pytest.raises(ModelFileError, match="give it with -d"):
        localspec.load(models[1], "none", ctx_size=256)
