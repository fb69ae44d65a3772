"""Laws of the check of a GPU: its files load in llama.cpp, it finds rows that differ, its jobs share the time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import localspec
from localspec.bench.trace import Trace, trace_lines
from localspec.control.costs import Costs, Curve
from localspec.gguf.header import read_header
from localspec.llama.context import LlamaContext
from localspec.llama.model import LlamaModel
from localspec.params import ContextParams
from localspec.protocols import Rows
from scripts.check.gpu_check.files import TYPES, write_assistant, write_target
from scripts.check.gpu_check.jobs import by_pair, plan, seconds_for
from scripts.check.gpu_check.predict import PUBLISHED, conditional, fixed_ratio, gains, simulate
from scripts.check.gpu_check.report import page
from scripts.check.gpu_check.rows import compare_fixed, compare_variable, fill, totals
from scripts.check.gpu_check.shapes import SHAPES, Shape

PARAMS = ContextParams(ctx_size=512, threads=1, device="none")
SMALL = Shape(
    "small", 256, 512, 4, 2, 2, 1, 64, 2, True, 32, draft_width=64, draft_forward=64, draft_heads=2, vocab=1024
)
EXPERTS = Shape("experts", 256, 512, 2, 2, 4, 2, 64, global_kv=1, experts=8, draft_width=64, draft_heads=2, vocab=1024)
TOKENS = np.random.default_rng(0).integers(300, 1000, 300).tolist()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pairs")


@pytest.mark.parametrize("kind", TYPES)
def test_random_pair_answers(folder: Path, kind: str) -> None:
    """In every file type, with its assistant, on llama.cpp."""
    shape = EXPERTS if kind in ("Q4_K_M", "Q8_0") else SMALL
    target, assistant = folder / f"{shape.name}-{kind}.gguf", folder / f"{shape.name}.gguf"
    assert write_target(target, shape, kind) == target.stat().st_size
    write_assistant(assistant, shape)
    with localspec.load(target, assistant, threads=1, ctx_size=256, exactness="off") as engine:
        done = engine.generate("hello", max_tokens=8, temperature=1.0, seed=1)
    assert engine.drafters == ("ngram", "mtp")
    assert len(set(done.tokens)) > 1  # weights that do not blow up choose more than one token


def test_shapes_are_those_of_the_published_sizes() -> None:
    """The header of a cut one has the widths, and whole periods of layers, some of them with K/V of their own."""
    for shape in SHAPES.values():
        for cut in (shape, shape.cut(0, 8192), shape.cut(12, 8192)):
            assert cut.layers % cut.period == 0
            assert bool(cut.narrow().experts) == bool(shape.experts)
            assert cut.narrow().layers == cut.layers
            assert 0 <= cut.shared <= cut.layers - cut.period
            assert (cut.width, cut.forward) == (shape.width, shape.forward)
            assert bool(cut.shared) == bool(shape.shared)


class Wide(LlamaContext):
    """Rows of passes over more than one token are wrong, or those with padding are."""

    wrong_from = 2

    def decode(self, tokens: Any, outputs: Any = "all") -> Rows:
        rows = super().decode(tokens, outputs)
        if len(rows) >= self.wrong_from:
            rows[-1, 5] += 1e-3
        return rows


def test_rows_that_differ_are_found(folder: Path) -> None:
    """All of them, with the largest difference; none where rows are equal."""
    path = folder / "rows.gguf"
    write_target(path, replace(SMALL, per_layer=0, shared=0, wide=False), "Q8_0")
    model = LlamaModel(read_header(path), PARAMS)
    exact, wrong = (kind(model, PARAMS, 512) for kind in (LlamaContext, Wide))
    for length in (40, 253):
        for width in (2, 4):
            for compare in (compare_variable, compare_fixed):
                same = compare(exact, TOKENS, length, width)
                assert (same.differing, same.largest) == (0, 0.0)
                assert same.rows >= width
    found = compare_variable(wrong, TOKENS, 40, 4)
    assert (found.rows, found.differing) == (5, 1)
    assert found.largest == pytest.approx(1e-3, rel=0.01)
    assert compare_fixed(wrong, TOKENS, 40, 4).differing == 1  # the last row of a pass without padding
    assert totals([found, found])["4"] == {"rows": 10, "differing": 2, "largest": found.largest}
    fill(exact, TOKENS, 100)
    assert exact.tokens == TOKENS[:100]
    for context in (exact, wrong):
        context.close()
    model.close()


@pytest.mark.parametrize("quick", [True, False])
def test_jobs_share_the_time(quick: bool) -> None:
    """Jobs that end at once leave their time to the others, and files go when no later job needs them."""
    jobs = plan(quick=quick, scale=1.0, sizes=list(SHAPES), types=["Q4_0", "Q8_0"])
    assert sum(job.weight for job in jobs) > 0
    left = 100.0
    for index in range(len(jobs)):
        left -= seconds_for(jobs, index, left)
        assert left >= -1e-9
    assert left == pytest.approx(0.0)
    ends = [job.pair for job, last in by_pair(jobs) if last]
    assert sorted(ends) == sorted({job.pair for job in jobs})
    assert {"costs", "rows", "answers", "doctor"} <= {job.name.split()[0] for job in jobs}


def test_published_rates_become_chances_of_one_token() -> None:
    """A share of all draft tokens counts those behind a wrong one."""
    assert conditional(1, 0.9) == pytest.approx(0.9)
    assert conditional(3, (0.8 + 0.64 + 0.512) / 3) == pytest.approx(0.8)


def test_gains_follow_the_costs() -> None:
    """Where wide passes cost nothing more, more tokens are drafted than where each row costs as much as a pass."""
    flat, steep = (Costs(Curve((1, 32), (1.0, seconds))) for seconds in (1.0, 32.0))
    deep, none = gains(flat), gains(steep)
    assert len(deep) == len(PUBLISHED)
    assert all(one["depth"] > 1 and one["ratio"] > 1 for one in deep)
    assert all((one["depth"], one["ratio"]) == (0, 1.0) for one in none)
    assert fixed_ratio(flat, None, 0.5, 2) == pytest.approx(1.5)
    assert fixed_ratio(steep, None, 0.5, 2) == pytest.approx(0.75)


def test_traces_are_replayed_at_measured_costs(tmp_path: Path) -> None:
    """A drafter without costs is left out with a sentence; a text that repeats gains by lookup where width is free."""
    tokens = (5, 6, 7, 8) * 12
    traces = [Trace("a", "edit", tokens[:8], tokens, {"model": [[]] * len(tokens)})]
    path = tmp_path / "traces.jsonl"
    path.write_text("".join(trace_lines(traces)))
    found = simulate(Costs(Curve((1, 32), (1.0, 1.0))), "here", path)
    assert found["sources"] == ["ngram"]
    assert "model" in found["notices"][0]
    assert found["categories"][0]["ratio"] > 2


def test_page_tells_what_failed_and_what_was_cut_off() -> None:
    about = {"date": "today", "localspec": "1", "platform": "x", "build": {"how": "installed", "devices": []}}
    rows = {"variable": {"2": {"rows": 3, "differing": 1, "largest": 0.5}}, "fixed": {}}
    jobs: dict[str, Any] = {
        "a": {"about": "a", "failed": "it broke"},
        "b": {"about": "b", "rows": rows},
        "c": {"complete": True},
    }
    answer = {"answers": 9, "differing": 0, "exactness": "exact", "pass_width": 4, "accepted": 1, "proposed": 2}
    jobs["d"] = {"about": "d", "answers": {"mtp": {**answer, "tokens_per_s": 3.0}}, "complete": True}
    text = page(about, jobs)
    assert "| d | mtp | 0 of 9 | exact | 4 | 1 of 2 | 3.0 |" in text
    assert "| b | 2: 1 of 3 (0.5) |  |" in text
    assert "- a: it broke" in text
    assert "- b: cut off by the time" in text
    assert "- c" not in text
