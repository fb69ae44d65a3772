"""llama.cpp on a converted reference checkpoint against what transformers computed from the checkpoint itself.

A reference is a folder with a checkpoint and ``expected.npz``; its layout is described in
``scripts/convert/reference/__init__.py``. Conversion is to F32, caches are F32: what differs is arithmetic.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import gguf_convert
from tests.helpers.paths import REFERENCE, ROOT

Results = dict[str, Any]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Difference:
    """Distance of llama.cpp's rows from the expected ones.

    ``relative`` is the largest of: the norm of a row's difference over the norm of the row.
    """

    absolute: float
    relative: float

    @staticmethod
    def between(found: Floats, expected: Floats) -> Difference:
        difference = found.astype(np.float64) - expected
        relative = np.linalg.norm(difference, axis=-1) / np.linalg.norm(expected, axis=-1)
        return Difference(float(np.abs(difference).max()), float(relative.max()))


@dataclass(frozen=True)
class Parity:
    """One reference compared: as transformers is, and with what is known to differ as llama.cpp has it.

    ``drafts`` and ``drafts_same`` are (agreeing, all), counted up to the first that differs behind each prompt; for
    a model that is no assistant they are (0, 0).
    """

    label: str
    architecture: str
    rows: int
    scale: float
    as_is: Difference
    same: Difference
    drafts: tuple[int, int] = (0, 0)
    drafts_same: tuple[int, int] = (0, 0)


def references(root: Path = REFERENCE) -> list[str]:
    """The names of all references, sorted."""
    return sorted(path.parent.name for path in root.glob("*/expected.npz"))


def expected(name: str, root: Path = REFERENCE) -> Results:
    with np.load(root / name / "expected.npz") as stored:
        return dict(stored)


def llama(folder: Path, job: dict[str, Any]) -> Results:
    """Run ``llama_run.py`` in ``folder``, where the files are that the job names."""
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    line = [sys.executable, str(ROOT / "tests/helpers/llama_run.py"), "job.json", "out.npz"]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(folder / "out.npz") as stored:
        return dict(stored)


def convert(name: str, folder: Path, root: Path = REFERENCE, kind: str = "F32") -> None:
    """Convert a reference to ``folder/name.gguf``, unless that is done."""
    if not (folder / f"{name}.gguf").exists():
        gguf_convert.convert(root / name, folder / f"{name}.gguf", kind)


def run(name: str, folder: Path, root: Path = REFERENCE, kind: str = "F32") -> Results:
    """Convert a reference (and its target) into ``folder`` and run llama.cpp on it."""
    wanted = expected(name, root)
    job: dict[str, Any] = {"ids": wanted["tokens"].tolist(), "hidden": "hidden" in wanted}
    if "target" in wanted:
        target = str(wanted["target"])
        job |= {"assistant": f"{name}.gguf", "lengths": wanted["lengths"].tolist(), "drafts": wanted["drafts"].shape[1]}
    else:
        target = name
    job["target"] = f"{target}.gguf"
    for each in {name, target}:
        convert(each, folder, root, kind)
    return llama(folder, job)


def compare(found: Results, wanted: Results, architecture: str) -> Parity:
    """The results of ``run`` against ``expected``."""
    if "target" in wanted:
        return _compare_drafts(found, wanted, architecture)
    wanted = {"logits_ggml": wanted["logits"], **wanted}
    rows, logits = found["logits"][wanted["positions"]], wanted["logits"]
    return Parity(
        str(wanted["label"]),
        architecture,
        len(logits),
        float(np.abs(logits).max()),
        Difference.between(rows, logits),
        Difference.between(rows, wanted["logits_ggml"]),
    )


def _compare_drafts(found: Results, wanted: Results, architecture: str) -> Parity:
    lengths = wanted["lengths"].tolist()
    drafts = np.stack([found[f"drafts_{length}"] for length in lengths])
    logits = np.stack([found[f"draft_logits_{length}"] for length in lengths])
    counts, differences = [], []
    for suffix in ("", "_ggml"):
        equal = (drafts == wanted[f"drafts{suffix}"]).cumprod(axis=1)
        counts.append((int(equal.sum()), equal.size))
        # behind a draft that differs the models are asked different questions
        asked = np.concatenate([np.ones_like(equal[:, :1]), equal[:, :-1]], axis=1).astype(bool)
        differences.append(Difference.between(logits[asked], wanted[f"draft_logits{suffix}"][asked]))
    scale = float(np.abs(wanted["draft_logits"]).max())
    return Parity(
        str(wanted["label"]), architecture, drafts.size, scale, differences[0], differences[1], counts[0], counts[1]
    )
