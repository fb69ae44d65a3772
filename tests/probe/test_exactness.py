"""Laws of what may be claimed: exact, approximate or off, on the built-in pair and where a machine is not exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import localspec
from localspec.control.base import FixedDepth
from localspec.errors import ModelFileError, UsageError
from localspec.generation.passes import PassShape
from localspec.gguf.header import GgufHeader, TensorInfo
from localspec.llama.context import LlamaContext
from localspec.llama.saved_cells import repeat_cells
from localspec.loading import load
from localspec.probe import exactness as assurance
from localspec.probe import fixed_width
from localspec.probe.batch_invariance import Findings, Invariance
from localspec.probe.exactness import has_float_matrix


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
    """Rows, then cells. The second load recalls both; other settings are probed on their own."""
    monkeypatch.setenv("LOCALSPEC_CACHE", str(tmp_path))
    calls: list[object] = []
    real = assurance.probe

    def counted(*given: Any, **options: Any) -> Invariance:
        calls.append(given)
        return real(*given, **options)

    monkeypatch.setattr(assurance, "probe", counted)
    for threads, expected in ((1, 2), (1, 2), (2, 4)):
        load("tiny", "ngram", threads=threads, ctx_size=256).close()
        assert len(calls) == expected


@pytest.fixture(autouse=True)
def nothing_known_of_padding(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Padded passes are probed by each test, and what was made up is not recalled by another."""
    monkeypatch.setattr(assurance, "_PADDED_KIND", f"padded-{abs(hash(request.node.nodeid))}")


def found_here(monkeypatch: pytest.MonkeyPatch, width: int, difference: float, padded: float = 2.0) -> None:
    """A machine where passes of up to ``width`` tokens are exact, and padded ones cost ``padded`` unpadded ones."""

    def known(_: LlamaContext, __: Findings, widest: int) -> Invariance:
        return Invariance(width, widest, difference)

    monkeypatch.setattr(assurance, "known_invariance", known)
    monkeypatch.setattr(fixed_width, "measure_cost", lambda *_: padded)


@pytest.fixture
def inexact(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A machine where batches of more than two tokens are off, unless weights stay as they are in the file."""
    seen: list[str] = []

    def invariance(context: LlamaContext, _: Findings, widest: int) -> Invariance:
        if context.settings() not in seen:
            seen.append(context.settings())
        return Invariance(2, widest, 0.5) if "repack=True" in seen[-1] else Invariance(widest, widest)

    monkeypatch.setattr(assurance, "known_invariance", invariance)
    monkeypatch.setattr(fixed_width, "measure_cost", lambda *_: 2.0)
    return seen


def test_prefer_says_what_is_not_exact(inexact: list[str]) -> None:
    """With the difference that was seen."""
    with load("tiny", "ngram", draft_max=40) as engine:
        assert (engine.exactness, engine.difference, engine.passes) == ("approximate", 0.5, PassShape(41))
        assert engine.generate("Once", max_tokens=4, temperature=0).exactness == "approximate"
        engine.drafting = False
        assert engine.generate("Once", max_tokens=4, temperature=0).exactness == "exact"
    assert len(inexact) == 1


def test_require_tries_other_settings(inexact: list[str]) -> None:
    """Exact ones, at the price of speed in wide batches."""
    with load("tiny", "ngram", exactness="require") as engine:
        assert (engine.exactness, engine.difference) == ("exact", 0.0)
    assert [line.endswith("repack=False") for line in inexact] == [False, True]


@pytest.mark.parametrize("wish", ["prefer", "require"])
def test_drafts_stay_narrow_where_only_narrow_passes_are_exact(wish: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drafts fit an exact pass, and a notice explains the limit."""
    found_here(monkeypatch, 3, 0.5, padded=3.0)
    with load("tiny", "auto", exactness=wish) as engine:
        assert (engine.exactness, engine.passes) == ("exact", PassShape(3))
        assert "drafting at most 2" in engine.notices[-1]
        engine.control = FixedDepth(8)
        done = engine.generate("Once upon a time", max_tokens=40, temperature=0, draft_max=9)
        assert len(done.stats.per_position) == 2


def test_longer_drafts_that_are_asked_for_are_approximate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drafts that fit are exact."""
    found_here(monkeypatch, 3, 0.5)
    for draft_max, exactness, widest in ((2, "exact", 3), (3, "approximate", 32), (40, "approximate", 41)):
        with load("tiny", "ngram", draft_max=draft_max) as engine:
            assert (engine.exactness, engine.passes.widest) == (exactness, widest)


def test_require_refuses_where_nothing_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the reason and the command that makes an exact file; without a drafter there is nothing to refuse."""
    found_here(monkeypatch, 1, 0.5)
    monkeypatch.setattr(fixed_width, "compare_padded", lambda *_: 0.25)
    with pytest.raises(ModelFileError, match="quantize IN OUT --exact"):
        load("tiny", "ngram", exactness="require")
    load("tiny", "none", exactness="require").close()


@pytest.mark.parametrize(("width", "expected"), [(1, 12), (3, 12)])
@pytest.mark.parametrize("draft", ["ngram", "none"])
def test_passes_are_padded_where_that_costs_little(
    width: int, expected: int, draft: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever drafts, or the text would depend on it; a notice says what it costs."""
    found_here(monkeypatch, width, 0.5, padded=1.04)
    monkeypatch.setattr(fixed_width, "compare_padded", lambda _, __, rows: 0.5 * (rows > 12))
    with load("tiny", draft) as engine:
        assert (engine.exactness, engine.passes) == ("exact", PassShape.fixed(expected))
        assert engine.generate("Once", max_tokens=4, temperature=0).exactness == "exact"
        if draft != "none":
            assert f"padded to {expected} rows" in engine.notices[-1]
            assert "1.04× the time" in engine.notices[-1]
    with load("tiny", draft, pass_width=1) as engine:
        assert engine.passes.width == 1
        assert engine.exactness == ("exact" if width == 3 or draft == "none" else "approximate")


def test_require_pads_where_nothing_else_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """At any cost."""
    found_here(monkeypatch, 1, 0.5, padded=3.0)
    for draft in ("ngram", "none"):
        with load("tiny", draft, exactness="require") as engine:
            assert (engine.exactness, engine.passes) == ("exact", PassShape.fixed(16))


def test_a_width_of_the_user_is_used_and_named_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where unpadded passes are exact; require refuses it where it is not."""
    for found, exactness in ((0.0, "exact"), (0.25, "approximate")):
        monkeypatch.setattr(assurance, "_PADDED_KIND", f"padded-{exactness}")
        monkeypatch.setattr(fixed_width, "compare_padded", lambda *_, found=found: found)
        with load("tiny", "ngram", pass_width=8) as engine:
            assert (engine.exactness, engine.difference) == (exactness, found)
            assert engine.passes == PassShape.fixed(8)
            assert engine.costs is not None
            assert engine.costs.verify.seconds(1) == engine.costs.verify.seconds(8) < 60  # also of a draft of no token
    with pytest.raises(ModelFileError, match=r"by up to 0\.25"):
        load("tiny", "ngram", pass_width=8, exactness="require")


@pytest.mark.parametrize(
    ("width", "wish", "says"), [(5, "prefer", "pass_width is 5"), (0, "prefer", "is 0"), (8, "off", "off never pads")]
)
def test_a_width_that_cannot_be(width: int, wish: Any, says: str) -> None:
    """One sentence with the value and the choices."""
    with pytest.raises(UsageError, match=says):
        load("tiny", pass_width=width, exactness=wish)


@pytest.mark.parametrize(
    ("name", "kind", "shape", "multiplied"),
    [
        ("blk.0.attn_q.weight", 8, (32, 32), False),
        ("blk.0.attn_norm.weight", 0, (32,), False),
        ("per_layer_token_embd.weight", 30, (32, 32), False),
        ("per_layer_model_proj.weight", 30, (32, 32), True),
        ("blk.0.attn_q.weight", 1, (32, 32), True),
        ("token_embd.weight", 0, (32, 32), True),
        ("blk.3.ffn_gate_inp.weight", 0, (32, 8), True),
    ],
)
def test_unpadded_passes_of_a_float_matrix_are_never_exact(
    name: str, kind: int, shape: tuple[int, ...], multiplied: bool
) -> None:
    """Its rows differ only now and then, so a probe may see none that does; a table that is looked up is no such."""
    header = GgufHeader(Path("x.gguf"), {}, {}, (TensorInfo(name, shape, kind, 0),), 0)
    assert has_float_matrix(header) == multiplied


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
