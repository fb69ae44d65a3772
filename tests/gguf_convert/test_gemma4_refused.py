"""Gemma 4 checkpoints that llama.cpp would compute otherwise, or not at all, are refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import gguf_convert
from localspec.errors import ConvertError
from tests.helpers import tiny_checkpoint as tiny

SLIDING, FULL = "sliding_attention", "full_attention"


def refused(folder: Path, config: dict[str, Any], match: str, **weights: Any) -> None:
    tiny.write(folder / "in", config, **weights)
    with pytest.raises(ConvertError, match=match) as caught:
        gguf_convert.convert(folder / "in", folder / "out.gguf")
    assert "\n" not in str(caught.value)
    assert not (folder / "out.gguf").exists()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"num_experts": None}, 'no "num_experts"'),
        ({"num_experts": 5000}, '"num_experts" must be an integer from 1 to 1024, not 5000'),
        ({"top_k_experts": 5}, '"top_k_experts" must be an integer from 1 to 4, not 5'),
        ({"moe_intermediate_size": 0}, '"moe_intermediate_size" must be'),
        ({"num_experts": 8}, "config.json implies"),
    ],
)
def test_refuses_odd_experts(tmp_path: Path, change: dict[str, Any], match: str) -> None:
    refused(tmp_path, tiny.expert_config(**change), match, weights=tiny.tensors(tiny.expert_config()))


@pytest.mark.parametrize("names", [["Gemma4ForCausalLM2"], [], None, "Gemma4ForCausalLM", [1]])
def test_refuses_an_unknown_architecture(tmp_path: Path, names: Any) -> None:
    refused(tmp_path, tiny.text_config(architectures=names), "is not supported|architectures")


def test_names_the_unknown_and_the_supported_architectures(tmp_path: Path) -> None:
    refused(tmp_path, tiny.text_config(architectures=["MambaForCausalLM"]), "MambaForCausalLM.*Gemma4ForCausalLM")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"attention_bias": True}, "attention_bias"),
        ({"use_bidirectional_attention": "all"}, "both directions"),
        ({"hidden_activation": "silu"}, "'silu'"),
        ({"layer_types": [SLIDING] * 4}, "layer_types"),
        ({"layer_types": [SLIDING, FULL]}, "layer_types"),
        ({"layer_types": [FULL, SLIDING, SLIDING, FULL]}, "sliding_attention, then full_attention"),
        ({"num_kv_shared_layers": 3}, "Only 1 layers"),
        ({"num_kv_shared_layers": 5}, '"num_kv_shared_layers" must be an integer from 0 to 4, not 5'),
        ({"num_hidden_layers": -1}, '"num_hidden_layers" must be an integer'),
        ({"num_hidden_layers": True}, '"num_hidden_layers" must be an integer'),
        ({"hidden_size": "64"}, '"hidden_size" must be an integer'),
        ({"hidden_size": 96}, "config.json implies"),
        ({"head_dim": 33}, "head sizes must be even"),
        ({"num_key_value_heads": 3}, "heads a multiple of K/V heads"),
        ({"global_head_dim": 2**30}, "global_head_dim"),
        ({"rms_norm_eps": None}, 'no "rms_norm_eps"'),
        ({"per_layer_config": {"x": {}}}, "'x' is not the number of a layer"),
        ({"per_layer_config": {"²": {}}}, "'²' is not the number of a layer"),
        ({"rope_parameters": {}}, 'no "full_attention"'),
        ({"vocab_size_per_layer_input": 100}, "100 rows for 320 tokens"),
        ({"per_layer_config": {"1": {"head_dim": 32}}}, "differ in head size"),
        ({"per_layer_config": [1]}, '"per_layer_config" must be an object'),
    ],
)
def test_refuses_what_llama_cpp_does_not_compute(tmp_path: Path, change: dict[str, Any], match: str) -> None:
    weights = tiny.tensors(tiny.text_config())
    refused(tmp_path, tiny.text_config(**change), match, weights=weights)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"rope_type": "yarn"}, "'yarn' is not supported"),
        ({"partial_rotary_factor": 1.5}, "partial_rotary_factor"),
        ({"rope_theta": float("nan")}, "rope_theta"),
    ],
)
def test_refuses_unknown_rope(tmp_path: Path, change: dict[str, Any], match: str) -> None:
    config = tiny.text_config()
    config["rope_parameters"]["full_attention"].update(change)
    refused(tmp_path, config, match)


def test_refuses_sliding_layers_that_rotate_in_part(tmp_path: Path) -> None:
    config = tiny.text_config()
    config["rope_parameters"]["sliding_attention"]["partial_rotary_factor"] = 0.5
    refused(tmp_path, config, r'"partial_rotary_factor" must be 1\.0 in sliding layers, not 0\.5')


def test_refuses_a_quantised_checkpoint(tmp_path: Path) -> None:
    config = tiny.text_config(quantization_config={"quant_method": "compressed-tensors"})
    refused(tmp_path, config, "is quantised \\('compressed-tensors'\\): use the unquantised one")


@pytest.mark.parametrize(
    ("change", "text_change", "match"),
    [
        ({"backbone_hidden_size": 32}, {}, "needs them to differ"),
        ({"backbone_hidden_size": None}, {}, 'no "backbone_hidden_size"'),
        ({"backbone_hidden_size": 128}, {}, "config.json implies"),
        ({"tie_word_embeddings": False}, {}, "tie_word_embeddings"),
        ({}, {"num_kv_shared_layers": 1}, "shares all K/V"),
        ({}, {"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
        (
            {},
            {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 32},
            "no experts",
        ),
        ({}, {"hidden_size_per_layer_input": 32}, "hidden_size_per_layer_input"),
    ],
)
def test_refuses_an_assistant_that_llama_cpp_cannot_run(
    tmp_path: Path, change: dict[str, Any], text_change: dict[str, Any], match: str
) -> None:
    config = tiny.assistant_config(**change)
    weights = tiny.tensors(tiny.assistant_config())
    config["text_config"].update(text_change)
    refused(tmp_path, config, match, weights=weights)


@pytest.mark.parametrize(
    "name", ["model.layers.2.mlp.up_proj.weight", "model.norm.weight", "model.layers.0.layer_scalar"]
)
def test_names_a_missing_tensor(tmp_path: Path, name: str) -> None:
    weights = tiny.tensors(tiny.text_config())
    del weights[name]
    refused(tmp_path, tiny.text_config(), f"no tensor {name.removeprefix('model.')}", weights=weights)


def test_names_a_tensor_without_a_place(tmp_path: Path) -> None:
    weights = tiny.tensors(tiny.text_config())
    weights["model.layers.0.self_attn.q_proj.bias"] = weights["model.norm.weight"]
    refused(tmp_path, tiny.text_config(), r"layers\.0\.self_attn\.q_proj\.bias", weights=weights)


@pytest.mark.parametrize("text", ["", "{", "[]", "\ufeff{}", '{"a": NaN'])
def test_refuses_a_config_that_is_no_object(tmp_path: Path, text: str) -> None:
    tiny.write(tmp_path / "in")
    (tmp_path / "in" / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConvertError, match=r"config\.json"):
        gguf_convert.convert(tmp_path / "in", tmp_path / "out.gguf")
