"""Gemma 4's configuration → GGUF metadata, in both spellings; what llama.cpp would compute otherwise is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import gguf_convert
from localspec.errors import ConvertError
from tests.helpers import tiny_checkpoint as tiny

SLIDING, FULL = "sliding_attention", "full_attention"


def metadata(path: Path) -> dict[str, Any]:
    fields = gguf.GGUFReader(path).fields
    return {key: field.contents() for key, field in fields.items() if not key.startswith("GGUF.")}


def converted(folder: Path, config: dict[str, Any], kind: str = "F32") -> dict[str, Any]:
    tiny.write(folder / "in", config)
    gguf_convert.convert(folder / "in", folder / "out.gguf", kind, force=True)
    return metadata(folder / "out.gguf")


def test_target_metadata(tmp_path: Path) -> None:
    found = converted(tmp_path, tiny.text_config(), "Q8_0")
    prefix = "gemma4."
    assert {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)} == {
        "block_count": 4,
        "context_length": 256,
        "embedding_length": 64,
        "feed_forward_length": [64, 64, 128, 128],
        "attention.head_count": 2,
        "attention.head_count_kv": 1,
        "attention.layer_norm_rms_epsilon": pytest.approx(1e-6),
        "attention.key_length": 64,
        "attention.value_length": 64,
        "attention.key_length_swa": 32,
        "attention.value_length_swa": 32,
        "attention.sliding_window": 16,
        "attention.sliding_window_pattern": [True, False, True, False],
        "attention.shared_kv_layers": 2,
        "embedding_length_per_layer_input": 32,
        "rope.freq_base": 1e6,
        "rope.freq_base_swa": 1e4,
        "rope.dimension_count": 64,
        "rope.dimension_count_swa": 32,
        "final_logit_softcapping": 30.0,
    }
    assert found["general.architecture"] == "gemma4"
    assert found["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q8_0


def test_assistant_metadata(tmp_path: Path) -> None:
    found = converted(tmp_path, tiny.assistant_config())
    assert found["general.architecture"] == "gemma4-assistant"
    assert found["gemma4-assistant.embedding_length_out"] == 64
    assert found["gemma4-assistant.nextn_predict_layers"] == found["gemma4-assistant.block_count"] == 2
    assert found["gemma4-assistant.attention.shared_kv_layers"] == 2
    assert found["general.file_type"] == gguf.LlamaFileType.ALL_F32


def test_k_v_heads_and_a_missing_v(tmp_path: Path) -> None:
    found = converted(tmp_path, tiny.v_is_k_config())
    assert found["gemma4.attention.head_count_kv"] == [2, 1, 2, 1]
    names = {tensor.name for tensor in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
    assert {f"blk.{i}.attn_v.weight" for i in range(4)} & names == {"blk.0.attn_v.weight", "blk.2.attn_v.weight"}


def test_expert_metadata_and_tensors(tmp_path: Path) -> None:
    found = converted(tmp_path, tiny.expert_config(), "Q8_0")
    assert found["gemma4.expert_count"] == 4
    assert found["gemma4.expert_used_count"] == 2
    assert found["gemma4.expert_feed_forward_length"] == 32
    assert found["general.size_label"].startswith("4x")
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
    shapes = {name.removeprefix("blk.3."): tuple(t.shape) for name, t in tensors.items() if name.startswith("blk.3.")}
    assert shapes["ffn_gate_up_exps.weight"] == (64, 64, 4)
    assert shapes["ffn_down_exps.weight"] == (32, 64, 4)
    assert shapes["ffn_gate_inp.weight"] == (64, 4)
    assert shapes["ffn_gate_inp.scale"] == (64,)
    assert shapes["ffn_down_exps.scale"] == (4,)
    assert {"pre_ffw_norm_2.weight", "post_ffw_norm_1.weight", "post_ffw_norm_2.weight"} <= shapes.keys()
    kinds = {
        name: tensors[f"blk.3.{name}"].tensor_type.name for name in ("ffn_down_exps.weight", "ffn_gate_inp.weight")
    }
    assert kinds == {"ffn_down_exps.weight": "Q8_0", "ffn_gate_inp.weight": "F32"}


@pytest.mark.parametrize("suffix", ["", ".weight"])
def test_experts_apart_are_the_same_as_stacked(tmp_path: Path, suffix: str) -> None:
    """Gate and up in one tensor, in two, or one matrix for each expert: the values are the same."""
    config = tiny.expert_config()
    stacked = tiny.tensors(config)
    halves, apart = dict(stacked), dict(stacked)
    for layer in range(4):
        prefix = f"model.layers.{layer}.experts."
        fused, down = stacked[prefix + "gate_up_proj"], stacked[prefix + "down_proj"]
        parts = {"gate_proj": fused[:, :32], "up_proj": fused[:, 32:], "down_proj": down}
        for weights in (halves, apart):
            del weights[prefix + "gate_up_proj"], weights[prefix + "down_proj"]
        halves.update({f"{prefix}{part}{suffix}": value for part, value in parts.items()})
        apart.update({f"{prefix}{i}.{part}.weight": v[i] for part, v in parts.items() for i in range(4)})
    files = {}
    for name, weights in {"stacked": stacked, "halves": halves, "apart": apart}.items():
        tiny.write(tmp_path / name / "in", config, weights=weights)
        gguf_convert.convert(tmp_path / name / "in", tmp_path / f"{name}.gguf", "F32")
        files[name] = (tmp_path / f"{name}.gguf").read_bytes()
    assert files["halves"] == files["apart"]
    found = {t.name: np.array(t.data) for t in gguf.GGUFReader(tmp_path / "halves.gguf").tensors}
    fused = {t.name: np.array(t.data) for t in gguf.GGUFReader(tmp_path / "stacked.gguf").tensors}
    joined = np.concatenate([found["blk.2.ffn_gate_exps.weight"], found["blk.2.ffn_up_exps.weight"]], axis=1)
    assert (joined == fused["blk.2.ffn_gate_up_exps.weight"]).all()


@pytest.mark.parametrize("form", [str, "{:02d}".format])
def test_per_layer_config_says_the_same(tmp_path: Path, form: Callable[[int], str]) -> None:
    tiny.write(tmp_path / "in", tiny.v_is_k_config())
    gguf_convert.convert(tmp_path / "in", tmp_path / "one.gguf")
    config = tiny.v_is_k_config()
    del config["global_head_dim"], config["num_global_key_value_heads"]
    config["per_layer_config"] = {form(i): {"head_dim": 64, "num_key_value_heads": 1} for i in (1, 3)}
    tiny.write_json(tmp_path / "in" / "config.json", config)
    gguf_convert.convert(tmp_path / "in", tmp_path / "two.gguf")
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "two.gguf").read_bytes()


def test_defaults_are_those_of_transformers(tmp_path: Path) -> None:
    layers = [SLIDING] * 5 + [FULL] + [SLIDING] + [FULL]
    config = tiny.text_config(num_hidden_layers=8, layer_types=layers, num_kv_shared_layers=0)
    tiny.write(tmp_path / "in", config)
    gguf_convert.convert(tmp_path / "in", tmp_path / "one.gguf")
    del config["rope_parameters"], config["layer_types"]
    tiny.write_json(tmp_path / "in" / "config.json", config)
    gguf_convert.convert(tmp_path / "in", tmp_path / "two.gguf")
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "two.gguf").read_bytes()


@pytest.mark.parametrize("name", ["Gemma4ForConditionalGeneration", "Gemma4UnifiedForConditionalGeneration"])
def test_text_part_of_a_multimodal_checkpoint(tmp_path: Path, name: str) -> None:
    text = tiny.text_config()
    source = tiny.tensors(text)
    tiny.write(tmp_path / "plain", text, weights=source)
    gguf_convert.convert(tmp_path / "plain", tmp_path / "plain.gguf")
    renamed = {name.replace("model.", "model.language_model.", 1): tensor for name, tensor in source.items()}
    renamed["model.vision_tower.encoder.layers.0.mlp.up_proj.weight"] = source["model.norm.weight"]
    renamed["model.embed_vision.multimodal_embedder.embedding_projection.weight"] = source["model.norm.weight"]
    renamed["model.embed_vision.patch_dense.weight"] = source["model.norm.weight"]
    renamed["model.embed_audio.embedding_projection.weight"] = source["model.norm.weight"]
    wrapped = {"architectures": [name], "text_config": text, "vision_config": {}}
    (tmp_path / "multi").mkdir()
    tiny.write(tmp_path / "multi" / "plain", wrapped, weights=renamed)
    report = gguf_convert.convert(tmp_path / "multi" / "plain", tmp_path / "multi.gguf")
    assert (tmp_path / "plain.gguf").read_bytes() == (tmp_path / "multi.gguf").read_bytes()
    assert "Left out: 3 tensors of the vision part." in report.notes
    assert "Left out: 1 tensor of the audio part." in report.notes


def test_unused_k_v_of_shared_layers_are_left_out(tmp_path: Path) -> None:
    source = tiny.write(tmp_path / "in")
    gguf_convert.convert(tmp_path / "in", tmp_path / "without.gguf")
    source["model.layers.3.self_attn.k_proj.weight"] = source["model.layers.1.self_attn.k_proj.weight"]
    tiny.write(tmp_path / "in", weights=source)
    report = gguf_convert.convert(tmp_path / "in", tmp_path / "with.gguf")
    assert "Left out: 1 tensor of K/V in layers that read an earlier layer's K/V." in report.notes
    assert (tmp_path / "without.gguf").read_bytes() == (tmp_path / "with.gguf").read_bytes()


def test_an_output_matrix_of_its_own_is_kept(tmp_path: Path) -> None:
    config = tiny.text_config(tie_word_embeddings=False)
    weights = tiny.tensors(config)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"] * 2
    tiny.write(tmp_path / "in", config, weights=weights)
    gguf_convert.convert(tmp_path / "in", tmp_path / "out.gguf")
    assert "output.weight" in {tensor.name for tensor in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
    del weights["lm_head.weight"]
    (tmp_path / "out.gguf").unlink()
    tiny.write(tmp_path / "in", config, weights=weights)
    with pytest.raises(ConvertError, match=r"no tensor lm_head\.weight"):
        gguf_convert.convert(tmp_path / "in", tmp_path / "out.gguf")


def test_centroids_of_an_assistant_are_left_out(tmp_path: Path) -> None:
    weights = tiny.tensors(tiny.assistant_config())
    weights["masked_embedding.centroids.weight"] = weights["model.norm.weight"]
    tiny.write(tmp_path / "in", tiny.assistant_config(use_ordered_embeddings=True), weights=weights)
    report = gguf_convert.convert(tmp_path / "in", tmp_path / "out.gguf")
    assert report.tensors == len(weights)
    assert "Left out: 1 tensor of centroids, because llama.cpp computes the whole vocabulary head." in report.notes


def test_an_assistant_shares_all_k_v_when_it_says_nothing(tmp_path: Path) -> None:
    config = tiny.assistant_config()
    tiny.write(tmp_path / "in", config)
    gguf_convert.convert(tmp_path / "in", tmp_path / "one.gguf")
    config["text_config"]["num_kv_shared_layers"] = 0
    tiny.write_json(tmp_path / "in" / "config.json", config)
    gguf_convert.convert(tmp_path / "in", tmp_path / "two.gguf")
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "two.gguf").read_bytes()
