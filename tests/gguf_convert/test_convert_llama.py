"""llama.cpp loads the converted files and computes what transformers computes from the checkpoint.

The reference (scripts/make_converter_reference.py) was computed twice: by transformers as it is, and with two
details as llama.cpp has them, the half-precision table that ggml's CPU backend uses for GELU and the sliding window
of assistants. What remains of the difference is then rounding.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_checkpoint as tiny

import gguf_convert
from gguf_convert.conversion import DIRECT

REFERENCE = Path(__file__).parent / "reference"
AS_IS, AS_GGML = 0.05, 0.01  # measured: 0.025 and 0.0034, on values up to 3.2
DRAFTS = 6

Results = dict[str, Any]


def llama(folder: Path, job: dict[str, Any]) -> Results:
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    line = [sys.executable, str(Path(__file__).with_name("llama_run.py")), "job.json", "out.npz"]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(folder / "out.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def expected() -> Results:
    with np.load(REFERENCE / "expected.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def texts() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((REFERENCE / "texts.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, expected: Results, texts: list[dict[str, Any]]) -> Results:
    """llama.cpp on the reference checkpoints in F32, results under ``ple_…`` and ``k_eq_v_…``."""
    folder = tmp_path_factory.mktemp("llama")
    for name in ("ple", "assistant", "k_eq_v"):
        gguf_convert.convert(REFERENCE / name, folder / f"{name}.gguf", "F32")
    job = {"ids": expected["ids"].tolist(), "drafts": DRAFTS, "texts": [text["text"] for text in texts]}
    pair = {**job, "target": "ple.gguf", "assistant": "assistant.gguf", "lengths": [50]}
    results = {f"ple_{key}": value for key, value in llama(folder, pair).items()}
    alone = llama(folder, {**job, "target": "k_eq_v.gguf"})
    return {**results, **{f"k_eq_v_{key}": value for key, value in alone.items()}}


@pytest.mark.parametrize("name", ["ple", "k_eq_v"])
@pytest.mark.parametrize("what", ["logits", "hidden"])
@pytest.mark.parametrize(("suffix", "bound"), [("", AS_IS), ("_ggml", AS_GGML)])
def test_target_agrees_with_transformers(
    found: Results, expected: Results, name: str, what: str, suffix: str, bound: float
) -> None:
    rows = found[f"{name}_{what}"][expected["positions"]]
    assert np.abs(rows - expected[f"{name}_{what}{suffix}"]).max() < bound


@pytest.mark.parametrize(("length", "count"), [(50, DRAFTS), (200, 4)])
def test_first_drafts_are_those_of_transformers(found: Results, expected: Results, length: int, count: int) -> None:
    assert found[f"ple_next_{length}"] == expected[f"ple_next_{length}"]
    assert found[f"ple_drafts_{length}"][:count].tolist() == expected[f"ple_drafts_{length}"][:count].tolist()


@pytest.mark.parametrize("length", [50, 200])
def test_draft_logits_agree_given_the_same_window(found: Results, expected: Results, length: int) -> None:
    difference = found[f"ple_draft_logits_{length}"] - expected[f"ple_draft_logits_{length}_ggml"]
    assert np.abs(difference).max() < AS_GGML


def test_llama_cpp_tokenises_like_the_tokenizer(found: Results, texts: list[dict[str, Any]]) -> None:
    for number, text in enumerate(texts):
        assert found[f"ple_text_{number}"].tolist() == text["ids"], text["text"]


@pytest.mark.parametrize("kind", DIRECT)
def test_llama_cpp_decodes_every_type(tmp_path: Path, kind: str) -> None:
    """On a checkpoint made by hand; a coarser type moves the logits, but not beyond recognition."""
    tiny.write(tmp_path / "target")
    tiny.write(tmp_path / "assistant", tiny.assistant_config())
    job = {"ids": list(range(2, 42)), "drafts": 2}
    rows = []
    for each in ("F32", kind):
        for name in ("target", "assistant"):
            gguf_convert.convert(tmp_path / name, tmp_path / f"{name}.gguf", each, force=True)
        done = llama(tmp_path, {**job, "target": "target.gguf", "assistant": "assistant.gguf"})
        assert done["drafts_40"].shape == (2,)
        rows.append(done["logits"])
    correlation = np.corrcoef(rows[0].ravel(), rows[1].ravel())[0, 1]
    assert correlation > {"F32": 0.99999, "F16": 0.999, "BF16": 0.99, "Q8_0": 0.99, "Q4_0": 0.7}[kind]
