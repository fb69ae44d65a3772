"""Qwen3.5: heads in llama.cpp's order, prediction heads, and what is refused. Logits: ``test_families.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import gguf_convert
import localspec
from gguf_convert.arch.reordered import Columns, RowsInOrder, heads_by_group
from gguf_convert.tensors import ArraySource
from localspec.control.base import FixedDepth
from localspec.errors import ConvertError
from localspec.gguf.header import read_header
from localspec.models.heads import has_heads
from tests.helpers import tiny_checkpoint as tiny
from tests.helpers.paths import REFERENCE

SOURCE = REFERENCE / "qwen3_5_4b"


def with_head(folder: Path, source: Path = SOURCE, **changes: Any) -> Path:
    """A reference with a random prediction head, named as in official checkpoints."""
    weights, dice = tiny.read(source), np.random.default_rng(0)
    made = {
        name.replace("model.layers.3.", "mtp.layers.0."): dice.normal(0.0, 0.1, values.shape).astype(np.float32)
        for name, values in weights.items()
        if name.startswith("model.layers.3.")
    }
    made["mtp.fc.weight"] = dice.normal(0.0, 0.1, (32, 64)).astype(np.float32)
    for name in ("pre_fc_norm_embedding", "pre_fc_norm_hidden", "norm"):
        made[f"mtp.{name}.weight"] = dice.normal(0.0, 0.1, 32).astype(np.float32)
    tiny.copy(source, folder, {**weights, **made}, **{"mtp_num_hidden_layers": 1, **changes})
    return folder


def test_heads_take_turns_by_group() -> None:
    """Of two groups of three heads with two values: rows, and columns, behind some that stay."""
    order = heads_by_group(2, 6, 2, first=1)
    assert order.tolist() == [0, 1, 2, 7, 8, 3, 4, 9, 10, 5, 6, 11, 12]
    values = np.arange(26, dtype=np.float32).reshape(13, 2)
    found = RowsInOrder(ArraySource(values), order)
    assert np.array_equal(found.rows(0, 13), values[order])
    assert np.array_equal(np.concatenate([found.rows(i, i + 1) for i in range(13)]), values[order])
    columns = Columns(ArraySource(values.T.copy()), order)
    assert np.array_equal(columns.rows(0, 2), values.T[:, order])


def test_prediction_head_is_a_layer_behind_the_others(tmp_path: Path) -> None:
    """With its own tensors; norms are those of the checkpoint plus one."""
    checkpoint, out = with_head(tmp_path / "checkpoint"), tmp_path / "out.gguf"
    gguf_convert.convert(checkpoint, out, "F32")
    header, weights = read_header(out), tiny.read(checkpoint)
    assert has_heads(header)
    assert (header.number("block_count"), header.number("nextn_predict_layers")) == (5, 1)
    found = {tensor.name: tensor.data for tensor in gguf.GGUFReader(out).tensors}
    assert np.array_equal(found["blk.4.nextn.eh_proj.weight"], weights["mtp.fc.weight"])
    assert np.array_equal(found["blk.4.nextn.enorm.weight"], weights["mtp.pre_fc_norm_embedding.weight"] + 1)
    assert np.array_equal(found["blk.4.nextn.shared_head_norm.weight"], weights["mtp.norm.weight"] + 1)
    assert np.array_equal(found["blk.4.attn_q.weight"], weights["mtp.layers.0.self_attn.q_proj.weight"])


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
def test_converted_head_drafts(tmp_path: Path, kind: str) -> None:
    """The tokens are those without it; the kernels of convolutions stay in float."""
    out = tmp_path / "out.gguf"
    gguf_convert.convert(with_head(tmp_path / "checkpoint"), out, kind)
    assert {t.type for t in read_header(out).tensors if t.name.endswith("ssm_conv1d.weight")} == {0}
    options: dict[str, Any] = {"max_tokens": 16, "temperature": 0}
    with localspec.load(out, "none", threads=1, ctx_size=256) as engine:
        expected = engine.generate("return self", **options).tokens
    with localspec.load(out, "auto", threads=1, ctx_size=256) as engine:
        assert engine.drafters == ("ngram", "mtp")
        engine.control = FixedDepth(3, only="mtp")
        assert engine.generate("return self", **options).tokens == expected


@pytest.mark.parametrize("joint", [False, True])
def test_head_with_experts_drafts(tmp_path: Path, joint: bool) -> None:
    """Whose experts are tensors of their own, or joined as transformers keeps them in memory."""
    checkpoint, out = with_head(tmp_path / "checkpoint", REFERENCE / "qwen3_5_35b"), tmp_path / "out.gguf"
    if joint:
        weights = tiny.read(checkpoint)
        for layer in ("mtp.layers.0.", *(f"model.layers.{i}." for i in range(4))):
            start = f"{layer}mlp.experts."
            ups = [[weights.pop(f"{start}{i}.{n}_proj.weight") for n in ("gate", "up", "down")] for i in range(4)]
            weights[f"{start}gate_up_proj"] = np.stack([np.concatenate(one[:2]) for one in ups])
            weights[f"{start}down_proj"] = np.stack([one[2] for one in ups])
        tiny.copy(checkpoint, tmp_path / "joint", weights)
        checkpoint = tmp_path / "joint"
    gguf_convert.convert(checkpoint, out, "F32")
    assert has_heads(read_header(out))
    with localspec.load(out, "mtp", threads=1, ctx_size=256, exactness="off") as engine:
        engine.control = FixedDepth(3, only="mtp")
        done = engine.generate("return self", max_tokens=8, temperature=0)
        assert done.stats.by_drafter["mtp"].proposed > 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"mtp_num_hidden_layers": 2}, "computes one prediction head"),
        ({"linear_num_value_heads": 3}, "a multiple of key heads"),
        ({"layer_types": ["linear_attention", "other"] * 2}, "layer_types"),
        ({"attention_bias": True}, "attention_bias"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "mrope_section"),
    ],
)
def test_configuration_that_llama_cpp_does_not_compute_is_refused(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    """With what is wrong."""
    with pytest.raises(ConvertError, match=reason):
        gguf_convert.convert(with_head(tmp_path / "checkpoint", **changes), tmp_path / "out.gguf", "F32")
