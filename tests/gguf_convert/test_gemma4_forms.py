"""Other spellings, types and splits of one model give one file; a note names what is left out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import gguf_convert
from tests.helpers import parity
from tests.helpers import tiny_checkpoint as tiny

NAMES = [name for name in parity.references() if name.startswith("gemma4")]
TARGETS = [name for name in NAMES if not name.endswith("_assistant")]
Array = tiny.Array


def file_of(checkpoint: Path) -> bytes:
    """The F32 file of a checkpoint; its folder's name is part of it."""
    out = checkpoint.parent / "out.gguf"
    gguf_convert.convert(checkpoint, out, "F32", force=True)
    return out.read_bytes()


def config_of(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((parity.REFERENCE / name / "config.json").read_text(encoding="utf-8"))
    return found


def other_form(name: str, folder: Path, dtype: str = "F32", **changes: Any) -> tuple[Path, dict[str, Array]]:
    """The reference again, as one file of ``dtype`` where there may have been shards."""
    weights = tiny.read(parity.REFERENCE / name)
    folder.mkdir()
    tiny.copy(parity.REFERENCE / name, folder / name, weights, dtype, **changes)
    return folder / name, weights


def newer_spelling(text: dict[str, Any]) -> dict[str, Any]:
    """The configuration as transformers writes it from 5.15 on: sizes of full layers by number, with leading zeros."""
    text = dict(text)
    kv_heads = text.pop("num_global_key_value_heads", None)
    changes = {"head_dim": text.pop("global_head_dim")}
    if kv_heads is not None and text["attention_k_eq_v"]:
        changes["num_key_value_heads"] = kv_heads
    full = [index for index, kind in enumerate(text["layer_types"]) if kind == "full_attention"]
    return {**text, "per_layer_config": {f"{index:02d}": changes for index in full}}


@pytest.mark.parametrize("name", NAMES)
def test_both_spellings_give_one_file(tmp_path: Path, name: str) -> None:
    text = newer_spelling(config_of(name)["text_config"])
    assert {"global_head_dim", "num_global_key_value_heads"}.isdisjoint(text)
    newer, _ = other_form(name, tmp_path / "newer", "BF16", text_config=text)
    assert file_of(newer) == file_of(parity_copy(name, tmp_path))


def parity_copy(name: str, folder: Path) -> Path:
    """The reference as it is, so that its file is written elsewhere."""
    return shutil.copytree(parity.REFERENCE / name, folder / "as_is" / name)


@pytest.mark.parametrize("name", NAMES)
def test_bf16_and_f32_give_one_file(tmp_path: Path, name: str) -> None:
    """Shards, as in 31B's reference, do too."""
    single, _ = other_form(name, tmp_path / "single", "F32")
    assert file_of(single) == file_of(parity_copy(name, tmp_path))


def test_f16_gives_its_values(tmp_path: Path) -> None:
    name = "gemma4_26b_a4b"
    half, weights = other_form(name, tmp_path / "half", "F16")
    rounded = {key: values.astype("f2").astype("f4") for key, values in weights.items()}
    (tmp_path / "full").mkdir()
    tiny.copy(parity.REFERENCE / name, tmp_path / "full" / name, rounded, "F32")
    assert file_of(half) == file_of(tmp_path / "full" / name)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_left_out_is_said_and_counted(tmp_path: Path, name: str) -> None:
    """Every tensor is in the file or in a note."""
    report = gguf_convert.convert(parity.REFERENCE / name, tmp_path / "out.gguf", "F32")
    said = sum(int(note.split()[2]) for note in report.notes if note.startswith("Left out: "))
    rope_factors = 1
    assert report.tensors - rope_factors + said == len(tiny.read(parity.REFERENCE / name))


def test_the_parts_are_named(tmp_path: Path) -> None:
    report = gguf_convert.convert(parity.REFERENCE / "gemma4_12b", tmp_path / "out.gguf")
    assert set(report.notes) >= {"Left out: 10 tensors of the vision part.", "Left out: 1 tensor of the audio part."}


@pytest.mark.parametrize("name", TARGETS)
def test_a_tied_head_in_the_checkpoint_is_left_out(tmp_path: Path, name: str) -> None:
    weights = tiny.read(parity.REFERENCE / name)
    weights["lm_head.weight"] = weights["model.language_model.embed_tokens.weight"]
    tiny.copy(parity.REFERENCE / name, tmp_path / name, weights, "BF16")
    report = gguf_convert.convert(tmp_path / name, tmp_path / "out.gguf", "F32")
    assert "output.weight" not in {tensor.name for tensor in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
    assert any(note.startswith("Left out: 1 tensor of the output head") for note in report.notes)


def test_experts_quantise_matrix_by_matrix(tmp_path: Path) -> None:
    """Three dimensions change nothing: each expert's rows are those of the expert alone."""
    name = "gemma4_26b_a4b"
    gguf_convert.convert(parity.REFERENCE / name, tmp_path / "out.gguf", "Q8_0")
    found = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
    experts = tiny.read(parity.REFERENCE / name)["model.language_model.layers.1.experts.down_proj"]
    stored = found["blk.1.ffn_down_exps.weight"].data
    assert len(stored) == len(experts) == 8
    for expert, rows in zip(experts, stored, strict=True):
        alone = gguf.quants.quantize(np.ascontiguousarray(expert), gguf.GGMLQuantizationType.Q8_0)
        assert rows.tobytes() == alone.tobytes()
