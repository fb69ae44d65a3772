"""Laws of what may be claimed: exact, guarded or off, on the built-in pair and where a machine is not exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import localspec
from localspec.control.base import FixedDepth
from localspec.errors import ModelFileError, UsageError
from localspec.generation.guard import Guard
from localspec.gguf.header import GgufHeader, TensorInfo
from localspec.llama.context import LlamaContext
from localspec.llama.saved_cells import repeat_cells
from localspec.loading import load
from localspec.probe import exactness as assurance
from localspec.probe.batch_invariance import Findings, Invariance
from localspec.probe.exactness import float_noise


@pytest.mark.parametrize("draft", ["auto", "ngram"])
@pytest.mark.parametrize("wish", ["prefer", "require"])
def test_the_built_in_pair_is_exact(draft: str, wish: Any) -> None:
    """Its weights are of a type whose rows are the same in any batch."""
    with load("tiny", draft, exactness=wish, ctx_size=1024) as engine:
        assert engine.exactness == "exact"
        assert engine.generate("Once", max_tokens=8, temperature=0).exactness == "exact"


def test_off_claims_nothing() -> None:
    """Unless nothing drafts."""
    with load("tiny", "ngram", exactness="off") as engine:
        assert engine.generate("Once", max_tokens=4, temperature=0).exactness == "off"
        engine.drafting = False
        assert engine.generate("Once", max_tokens=4, temperature=0).exactness == "exact"


def test_a_wish_that_is_none() -> None:
    """One sentence with the value and the choices."""
    with pytest.raises(UsageError, match=r"'maybe'.*require, prefer, off"):
        localspec.load("tiny", exactness="maybe")  # type: ignore[arg-type]


def test_a_verdict_is_found_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """The second load recalls it; other settings are probed on their own."""
    monkeypatch.setenv("LOCALSPEC_CACHE", str(tmp_path))
    calls: list[object] = []
    real = assurance.probe

    def counted(*given: Any) -> Invariance:
        calls.append(given)
        return real(*given)

    monkeypatch.setattr(assurance, "probe", counted)
    for threads, expected in ((1, 1), (1, 1), (2, 2)):
        load("tiny", "ngram", threads=threads, ctx_size=256).close()
        assert len(calls) == expected


def found_here(monkeypatch: pytest.MonkeyPatch, width: int, *noises: float) -> None:
    """A machine where a probe finds that passes of up to ``width`` tokens are exact."""

    def known(_: LlamaContext, __: Findings, widest: int, n_ctx: int = 0) -> Invariance:
        return Invariance(width, widest, *noises)

    monkeypatch.setattr(assurance, "known_invariance", known)


@pytest.fixture
def inexact(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A machine where batches of more than two tokens are off, unless weights stay as they are in the file."""
    seen: list[str] = []

    def invariance(context: LlamaContext, _: Findings, widest: int, n_ctx: int = 0) -> Invariance:
        if context.settings() not in seen:
            seen.append(context.settings())
        return Invariance(2, widest, 0.5, 0.25) if "repack=True" in seen[-1] else Invariance(widest, widest)

    monkeypatch.setattr(assurance, "known_invariance", invariance)
    return seen


def test_prefer_guards_what_is_not_exact(inexact: list[str]) -> None:
    """With the width and the noise that were found."""
    with load("tiny", "ngram", draft_max=40) as engine:
        assert (engine.exactness, engine.guard) == ("guarded", Guard(2, 0.5, 0.25, 41))
    assert len(inexact) == 1


def test_require_tries_other_settings(inexact: list[str]) -> None:
    """Exact ones, at the price of speed in wide batches."""
    with load("tiny", "ngram", exactness="require") as engine:
        assert (engine.exactness, engine.guard.noise) == ("exact", 0.0)
    assert [line.endswith("tiled=False repack=False") for line in inexact] == [False, True]


@pytest.mark.parametrize("wish", ["prefer", "require"])
def test_drafts_stay_narrow_where_only_narrow_batches_are_exact(wish: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drafts fit an exact batch, and a notice explains the limit."""
    found_here(monkeypatch, 3, 0.5, 0.25)
    with load("tiny", "auto", exactness=wish) as engine:
        assert (engine.exactness, engine.guard.widest) == ("exact", 3)
        assert "drafting at most 2" in engine.notices[-1]
        engine.control = FixedDepth(8)
        done = engine.generate("Once upon a time", max_tokens=40, temperature=0, draft_max=9)
        assert len(done.stats.per_position) == 2


def test_longer_drafts_that_are_asked_for_are_guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drafts that fit are exact."""
    found_here(monkeypatch, 3, 0.5, 0.25)
    for draft_max, exactness, widest in ((2, "exact", 3), (3, "guarded", 32), (40, "guarded", 41)):
        with load("tiny", "ngram", draft_max=draft_max) as engine:
            assert (engine.exactness, engine.guard.widest) == (exactness, widest)


def test_require_refuses_where_nothing_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the reason and the command that makes an exact file; without a drafter there is nothing to refuse."""
    found_here(monkeypatch, 1, 0.5)
    with pytest.raises(ModelFileError, match="quantize IN OUT --exact"):
        load("tiny", "ngram", exactness="require")
    load("tiny", "none", exactness="require").close()


@pytest.mark.parametrize(
    ("name", "kind", "shape", "noise"),
    [
        ("blk.0.attn_q.weight", 8, (32, 32), 0.0),
        ("blk.0.attn_norm.weight", 0, (32,), 0.0),
        ("per_layer_token_embd.weight", 30, (32, 32), 0.0),
        ("per_layer_model_proj.weight", 30, (32, 32), 0.1),
        ("blk.0.attn_q.weight", 1, (32, 32), 0.1),
        ("token_embd.weight", 0, (32, 32), 0.1),
        ("blk.3.ffn_gate_inp.weight", 0, (32, 8), 1.4),
    ],
)
def test_a_float_matrix_is_never_exact(name: str, kind: int, shape: tuple[int, ...], noise: float) -> None:
    """Its rows differ only now and then, so a probe may see none that does; a table that is looked up is no such."""
    header = GgufHeader(Path("x.gguf"), {}, {}, (TensorInfo(name, shape, kind, 0),), 0)
    assert float_noise(header) == noise


def test_repeated_cells_are_a_longer_cache() -> None:
    """At positions from 0 on, and rows on it are the same alone and in a batch."""
    with load("tiny", "none", ctx_size=1024) as engine:
        context: Any = engine._target
        tokens = engine.tokenize("Once upon a time there was a little girl who lived in the woods.")[:12]
        context.decode(tokens, "none")
        state = repeat_cells(context.state(), 50)
        assert state is not None
        assert repeat_cells(context.state(), 1) == context.state()
        context.restore(state, tokens * 50)
        alone = [context.decode((token,))[0].copy() for token in tokens[:4]]
        context.rewind(600)
        assert np.array_equal(context.decode(tokens[:4]), alone)
