"""Published configurations of the common families at their real sizes → GGUF metadata; both spellings; refusals."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from localspec.errors import ConvertError
from tests.helpers.official_configs import (
    GEMMA3_4B,
    GEMMA3_27B,
    GEMMA3_270M,
    LLAMA_3_2_1B,
    OFFICIAL,
    QWEN3_0_6B,
    QWEN25_CODER_0_5B,
    SMOLLM2_135M,
    SMOLLM3_3B,
    mapped,
)

FULL, SLIDING = "full_attention", "sliding_attention"
YARN = {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"}
Config = dict[str, Any]


def test_qwen25_as_in_the_official_file() -> None:
    """The keys of Qwen2.5-Coder-0.5B-Instruct-GGUF."""
    found = mapped(QWEN25_CODER_0_5B)
    assert found.architecture == "qwen2"
    assert found.metadata == {
        "block_count": 24,
        "context_length": 32768,
        "embedding_length": 896,
        "feed_forward_length": 4864,
        "attention.head_count": 14,
        "attention.head_count_kv": 2,
        "rope.freq_base": 1e6,
        "attention.layer_norm_rms_epsilon": 1e-6,
    }
    shapes = {tensor.name: tensor.shape for tensor in found.tensors}
    assert shapes["blk.23.attn_k.bias"] == (128,)
    assert shapes["blk.0.attn_q.weight"] == (896, 896)
    assert len(shapes) == 24 * 12 + 2
    assert "output.weight" not in shapes


def test_gemma3_270m_as_in_the_official_file() -> None:
    """The keys of gemma-3-270m's GGUF, and the base of sliding layers, which newer files name as well."""
    found = mapped(GEMMA3_270M)
    assert found.architecture == "gemma3"
    assert found.metadata == {
        "context_length": 32768,
        "embedding_length": 640,
        "block_count": 18,
        "feed_forward_length": 2048,
        "attention.head_count": 4,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "attention.key_length": 256,
        "attention.value_length": 256,
        "rope.freq_base": 1e6,
        "rope.freq_base_swa": 1e4,
        "attention.sliding_window": 512,
        "attention.head_count_kv": 1,
    }
    assert len(found.tensors) == 18 * 13 + 2
    assert {tensor.name.partition(".")[2].partition(".")[2] for tensor in found.tensors if "blk" in tensor.name} == {
        f"{name}.weight"
        for name in (
            *("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "attn_q_norm", "attn_k_norm"),
            *("post_attention_norm", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down", "post_ffw_norm"),
        )
    }


def test_gemma3_4b_relies_on_the_defaults_of_transformers() -> None:
    found = mapped(GEMMA3_4B)
    assert found.metadata == {
        "context_length": 131072,
        "embedding_length": 2560,
        "block_count": 34,
        "feed_forward_length": 10240,
        "attention.head_count": 8,
        "attention.head_count_kv": 4,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "attention.key_length": 256,
        "attention.value_length": 256,
        "rope.freq_base": 1e6,
        "rope.freq_base_swa": 1e4,
        "rope.scaling.type": "linear",
        "rope.scaling.factor": 8.0,
        "attention.sliding_window": 1024,
    }
    assert found.vocab_rows == 262208
    assert found.notes == ("Left out: 2 tensors of the vision part.",)


def test_gemma3_27b_has_the_scale_that_llama_cpp_gives_to_62_layers() -> None:
    assert mapped(GEMMA3_27B).metadata["attention.key_length"] == 128
    narrower = {**GEMMA3_27B["text_config"], "query_pre_attn_scalar": 128}
    with pytest.raises(ConvertError, match="168"):
        mapped({**GEMMA3_27B, "text_config": narrower})


def test_llama_and_what_its_class_adds() -> None:
    found = mapped(LLAMA_3_2_1B)
    assert found.architecture == "llama"
    assert found.metadata == {
        "vocab_size": 128256,
        "context_length": 131072,
        "embedding_length": 2048,
        "block_count": 16,
        "feed_forward_length": 8192,
        "rope.dimension_count": 64,
        "attention.head_count": 32,
        "attention.head_count_kv": 8,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "attention.key_length": 64,
        "attention.value_length": 64,
        "rope.freq_base": 5e5,
    }
    assert next(tensor.shape for tensor in found.tensors if tensor.name == "rope_freqs.weight") == (32,)


@pytest.mark.parametrize(
    ("config", "architecture", "base", "head"),
    [(SMOLLM2_135M, "llama", 1e5, 64), (SMOLLM3_3B, "smollm3", 5e6, 128), (QWEN3_0_6B, "qwen3", 1e6, None)],
)
def test_the_other_families(config: Config, architecture: str, base: float, head: int | None) -> None:
    found = mapped(config)
    assert found.architecture == architecture
    assert found.metadata["rope.freq_base"] == base
    assert found.metadata.get("rope.dimension_count") == head
    assert not any(tensor.name == "rope_freqs.weight" for tensor in found.tensors)


@pytest.mark.parametrize("name", OFFICIAL)
def test_what_transformers_5_saves_says_the_same(name: str) -> None:
    old = OFFICIAL[name]
    found, expected = mapped(respelled(old)), mapped(old)
    assert (found.architecture, found.metadata) == (expected.architecture, expected.metadata)
    assert [tensor.name for tensor in found.tensors] == [tensor.name for tensor in expected.tensors]


def respelled(old: Config) -> Config:
    """``rope_parameters`` and ``dtype``, Gemma's layers as a list."""
    config: Config = copy.deepcopy(old)
    config["dtype"] = config.pop("torch_dtype")
    text = config.get("text_config", config)
    scaling = text.pop("rope_scaling", None) or {"rope_type": "default"}
    if "gemma3" in config["model_type"]:
        count = text["num_hidden_layers"]
        text.pop("_sliding_window_pattern", None)
        text["layer_types"] = [SLIDING if (index + 1) % 6 else FULL for index in range(count)]
        local = {"rope_type": "default", "rope_theta": text.pop("rope_local_base_freq", 1e4)}
        text["rope_parameters"] = {FULL: {**scaling, "rope_theta": text.pop("rope_theta", 1e6)}, SLIDING: local}
    else:
        text["rope_parameters"] = {**scaling, "rope_theta": text.pop("rope_theta")}
    return config


def test_the_window_pattern_is_written_only_where_it_is_not_llama_cpps() -> None:
    key = "attention.sliding_window_pattern"
    assert key not in mapped(GEMMA3_270M).metadata
    other = mapped(GEMMA3_270M, layer_types=[FULL, SLIDING] * 9).metadata
    assert other[key] == [False, True] * 9
    by_period = {**GEMMA3_270M, "layer_types": None, "sliding_window_pattern": 2}
    assert mapped(by_period).metadata[key] == [True, False] * 9
    none = mapped(GEMMA3_270M, layer_types=[FULL] * 18).metadata
    assert "attention.sliding_window" not in none
    assert key not in none


def test_yarn_is_written_with_its_context() -> None:
    found = mapped(QWEN25_CODER_0_5B, rope_scaling=YARN).metadata
    assert found["rope.scaling.type"] == "yarn"
    assert found["rope.scaling.factor"] == 4.0
    assert found["rope.scaling.original_context_length"] == 32768
    assert "rope.scaling.attn_factor" not in found


def test_an_attention_factor_is_relative_to_yarns_own() -> None:
    """transformers' default is 0.1 ln(factor) + 1; llama.cpp multiplies that by ``attn_factor``."""
    usual = 1.1386294361119891
    for extra, expected in (
        ({"attention_factor": usual}, None),
        ({"attention_factor": 2 * usual}, 2.0),
        ({"mscale": 1.0, "mscale_all_dim": 1.0}, 1 / usual),
    ):
        found = mapped(QWEN3_0_6B, rope_scaling={**YARN, **extra}).metadata.get("rope.scaling.attn_factor")
        assert found == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("config", "change", "match"),
    [
        (GEMMA3_270M, {"attention_bias": True}, "attention_bias"),
        (GEMMA3_270M, {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        (GEMMA3_270M, {"hidden_activation": "silu"}, "hidden_activation"),
        (GEMMA3_270M, {"use_bidirectional_attention": True}, "both directions"),
        (GEMMA3_270M, {"query_pre_attn_scalar": 64}, "query_pre_attn_scalar"),
        (GEMMA3_270M, {"layer_types": [FULL, SLIDING]}, "layer_types"),
        (GEMMA3_270M, {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "yarn"),
        (GEMMA3_270M, {"rope_parameters": {"rope_theta": 1e4}}, "rope_parameters"),
        (GEMMA3_270M, {"rope_parameters": {SLIDING: {"rope_type": "linear", "factor": 2.0}}}, "sliding layers"),
        (QWEN25_CODER_0_5B, {"use_sliding_window": True, "sliding_window": 4096, "max_window_layers": 20}, "window"),
        (QWEN25_CODER_0_5B, {"head_dim": 128}, "heads"),
        (QWEN25_CODER_0_5B, {"is_causal": False}, "both directions"),
        (QWEN25_CODER_0_5B, {"hidden_act": "gelu"}, "hidden_act"),
        (QWEN25_CODER_0_5B, {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "dynamic"),
        (QWEN25_CODER_0_5B, {"rope_scaling": {**YARN, "beta_fast": 64}}, "beta_fast"),
        (QWEN25_CODER_0_5B, {"rope_scaling": {**YARN, "truncate": False}}, "truncate"),
        (QWEN25_CODER_0_5B, {"rope_scaling": {**YARN, "factor": 0}}, "factor"),
        (QWEN25_CODER_0_5B, {"quantization_config": {"quant_method": "awq"}}, "awq"),
        (QWEN25_CODER_0_5B, {"num_key_value_heads": 3}, "K/V heads"),
        (QWEN25_CODER_0_5B, {"intermediate_size": 4865}, "do not belong together"),
        (QWEN25_CODER_0_5B, {"num_hidden_layers": 25}, "no tensor"),
        (QWEN25_CODER_0_5B, {"num_hidden_layers": 23}, "does not"),
        (QWEN25_CODER_0_5B, {"tie_word_embeddings": False}, "lm_head"),
        (QWEN3_0_6B, {"attention_bias": True}, "attention_bias"),
        (QWEN3_0_6B, {"use_sliding_window": True, "sliding_window": 512, "layer_types": [SLIDING] * 28}, "window"),
        (QWEN3_0_6B, {"partial_rotary_factor": 0.5, "rope_parameters": {"partial_rotary_factor": 0.5}}, "partial"),
        (LLAMA_3_2_1B, {"rope_scaling": {"rope_type": "longrope"}}, "longrope"),
        (LLAMA_3_2_1B, {"rope_scaling": {**LLAMA_3_2_1B["rope_scaling"], "high_freq_factor": 1.0}}, "low_freq_factor"),
        (LLAMA_3_2_1B, {"attention_bias": True}, "bias"),
        (LLAMA_3_2_1B, {"mlp_bias": True}, "bias"),
        (SMOLLM3_3B, {"no_rope_layers": [1] * 36}, "no_rope_layers"),
        (SMOLLM3_3B, {"no_rope_layers": None, "no_rope_layer_interval": 3}, "no_rope_layers"),
        (SMOLLM3_3B, {"mlp_bias": True}, "mlp_bias"),
        (SMOLLM3_3B, {"attention_bias": True}, "attention_bias"),
        (SMOLLM3_3B, {"rope_scaling": LLAMA_3_2_1B["rope_scaling"]}, "llama3"),
    ],
)
def test_refuses_in_one_sentence_what_llama_cpp_would_compute_otherwise(
    config: Config, change: Config, match: str
) -> None:
    with pytest.raises(ConvertError, match=match) as caught:
        mapped(config, **change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "change"),
    [
        (QWEN25_CODER_0_5B, {"use_sliding_window": True}),  # no layer from max_window_layers on
        (QWEN25_CODER_0_5B, {"use_sliding_window": True, "max_window_layers": 0}),  # as wide as the context
        (QWEN3_0_6B, {"use_sliding_window": True, "sliding_window": 512, "layer_types": [FULL] * 28}),
    ],
)
def test_a_window_that_no_token_reaches_is_no_window(config: Config, change: Config) -> None:
    assert mapped(config, **change).metadata == mapped(config).metadata
