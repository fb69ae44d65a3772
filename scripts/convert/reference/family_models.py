"""Narrow random models of the common families, each in the spelling of the configuration that the Hub has for it.

Together they have what varies between checkpoints: tied and untied heads, one file and two, biases, heads of their own
size, every rope scaling that llama.cpp computes, sliding windows by period and by list, layers without positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3_5ForCausalLM,
    Qwen3_5MoeForCausalLM,
    Qwen3_5MoeTextConfig,
    Qwen3_5TextConfig,
    Qwen3Config,
    Qwen3ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

from scripts.convert.reference.family_tokenizers import gemma3, llama3, qwen2, smollm2, smollm3

VOCAB, WINDOW = 320, 40
GEMMA_VOCAB = 384
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
GEMMA = {
    **SIZES,
    "vocab_size": GEMMA_VOCAB,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "sliding_window": WINDOW,
    "rms_norm_eps": 1e-6,
}
WIDTHS = ("hidden_size", "intermediate_size", "head_dim")
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,  # with heads of 16 values, some wavelengths fall in each of the three parts
}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 128}


@dataclass(frozen=True)
class Family:
    """``make`` takes a factor for all widths; ``respell`` gives a configuration the form of an official one."""

    label: str
    make: Callable[[int], Any]
    tokenizer: Callable[[int], PreTrainedTokenizerFast]
    respell: Callable[[dict[str, Any]], None]
    shards: int = 1
    gelu: bool = False


def sized(scale: int, sizes: Mapping[str, float] = SIZES, **changes: Any) -> dict[str, Any]:
    """Arguments of a configuration: sizes, widths times ``scale``, and weights that keep activations as large."""
    values = {**sizes, **changes}
    wide = {key: values[key] * scale for key in WIDTHS if key in values}
    return {**values, **wide, "initializer_range": 0.2 / scale**0.5}


def gemma3_text(scale: int, **changes: Any) -> Gemma3TextConfig:
    values = sized(scale, GEMMA, **changes)
    return Gemma3TextConfig(**values, query_pre_attn_scalar=values["head_dim"])


def gemma3_270m(scale: int) -> Any:
    """Seven layers in llama.cpp's own period of six, so that the file does not name it; a softcap."""
    changes = {"num_hidden_layers": 7, "intermediate_size": 32, "head_dim": 24}
    return Gemma3ForCausalLM(gemma3_text(scale, **changes, final_logit_softcapping=20.0))


def gemma3_4b(scale: int) -> Any:
    """A list of layers that no period makes, scaled full layers, and a vision tower beside."""
    text = gemma3_text(
        scale,
        layer_types=["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
        rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    )
    vision = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "image_size": 16,
        "patch_size": 8,
    }
    return Gemma3ForConditionalGeneration(Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4))


def llama_3_2_1b(scale: int) -> Any:
    values = sized(scale, head_dim=16, rope_parameters=LLAMA3, tie_word_embeddings=True)
    return LlamaForCausalLM(LlamaConfig(**values))


def llama_untied(scale: int) -> Any:
    """Nothing that the official ones have, but what the class allows: biases everywhere, linear scaling."""
    rope = {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}
    values = sized(scale, rope_parameters=rope, attention_bias=True, mlp_bias=True, tie_word_embeddings=False)
    return LlamaForCausalLM(LlamaConfig(**values))


def smollm2_135m(scale: int) -> Any:
    """Three heads and a width of three heads, as the real one has nine (width 576)."""
    sizes = {"hidden_size": 48, "num_attention_heads": 3, "num_key_value_heads": 1, "num_hidden_layers": 3}
    rope = {"rope_type": "default", "rope_theta": 1e5}
    return LlamaForCausalLM(LlamaConfig(**sized(scale, SIZES | sizes, rope_parameters=rope, tie_word_embeddings=True)))


def smollm3_3b(scale: int) -> Any:
    """Five layers: the fourth has no positions."""
    rope = {"rope_type": "default", "rope_theta": 5e6}
    values = sized(scale, num_hidden_layers=5, rope_parameters=rope, tie_word_embeddings=True)
    return SmolLM3ForCausalLM(SmolLM3Config(**values, bos_token_id=None, eos_token_id=2, pad_token_id=None))


def qwen2_5_0_5b(scale: int) -> Any:
    rope = {"rope_type": "default", "rope_theta": 1e6}
    return Qwen2ForCausalLM(Qwen2Config(**sized(scale, rope_parameters=rope, tie_word_embeddings=True)))


def qwen2_5_7b(scale: int) -> Any:
    """Untied, and stretched by YaRN as its model card tells how to."""
    return Qwen2ForCausalLM(Qwen2Config(**sized(scale, rope_parameters=YARN, tie_word_embeddings=False)))


def qwen3_0_6b(scale: int) -> Any:
    rope = {"rope_type": "default", "rope_theta": 1e6}
    return Qwen3ForCausalLM(Qwen3Config(**sized(scale, head_dim=16, rope_parameters=rope, tie_word_embeddings=True)))


def qwen3_8b(scale: int) -> Any:
    """Untied, with an attention factor other than YaRN's own."""
    rope = {**YARN, "attention_factor": 1.25}
    return Qwen3ForCausalLM(Qwen3Config(**sized(scale, head_dim=16, rope_parameters=rope, tie_word_embeddings=False)))


def qwen3_5_4b(scale: int) -> Any:
    return Qwen3_5ForCausalLM(Qwen3_5TextConfig(**qwen3_5(scale, tie_word_embeddings=True)))


def qwen3_5_35b(scale: int) -> Any:
    """Untied, with four experts of which two compute, and a shared one."""
    experts = {"num_experts": 4, "num_experts_per_tok": 2}
    wide = {"moe_intermediate_size": 16 * scale, "shared_expert_intermediate_size": 24 * scale}
    values = qwen3_5(scale, tie_word_embeddings=False, **experts, **wide)
    return Qwen3_5MoeForCausalLM(Qwen3_5MoeTextConfig(**{k: v for k, v in values.items() if k != "intermediate_size"}))


def qwen3_5(scale: int, **more: Any) -> dict[str, Any]:
    """Three gated delta nets, whose two groups of keys have two heads of values each, and a layer of attention."""
    rope = {
        "rope_type": "default",
        "rope_theta": 1e7,
        "partial_rotary_factor": 0.25,
        "mrope_section": [2 * scale, scale, scale],
        "mrope_interleaved": True,
    }
    nets = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_conv_kernel_dim": 4}
    wide = {f"linear_{kind}_head_dim": 16 * scale for kind in ("key", "value")}
    return sized(scale, **{"head_dim": 32, "rope_parameters": rope, **nets, **wide, **more})


def keep(config: dict[str, Any]) -> None:
    """As transformers 5 saves it: ``rope_parameters`` and ``dtype``."""


def old_rope(config: dict[str, Any]) -> None:
    """As up to transformers 4: ``rope_theta``, ``rope_scaling`` and ``torch_dtype``."""
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope if rope.get("rope_type") != "default" else None
    config["torch_dtype"] = config.pop("dtype")
    config.pop("layer_types", None)


def oldest_rope(config: dict[str, Any]) -> None:
    """``type`` in place of ``rope_type``, as on the model cards of Qwen2.5."""
    old_rope(config)
    config["rope_scaling"]["type"] = config["rope_scaling"].pop("rope_type")


def old_gemma3(config: dict[str, Any]) -> None:
    """As the official 270M and 1B: two bases, the window by its period."""
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope["full_attention"]["rope_theta"]
    config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
    config["rope_scaling"] = None
    config["sliding_window_pattern"] = 6
    config["torch_dtype"] = config.pop("dtype")
    del config["layer_types"]


FAMILIES = {
    "gemma3_270m": Family("Gemma 3 270M", gemma3_270m, gemma3, old_gemma3, gelu=True),
    "gemma3_4b": Family("Gemma 3 4B, text", gemma3_4b, gemma3, keep, shards=2, gelu=True),
    "llama_3_2_1b": Family("Llama 3.2 1B", llama_3_2_1b, llama3, old_rope),
    "llama_untied": Family("Llama, untied, all biases", llama_untied, llama3, keep, shards=2),
    "smollm2_135m": Family("SmolLM2 135M", smollm2_135m, smollm2, old_rope),
    "smollm3_3b": Family("SmolLM3 3B", smollm3_3b, smollm3, old_rope),
    "qwen2_5_0_5b": Family("Qwen2.5 0.5B", qwen2_5_0_5b, qwen2, old_rope),
    "qwen2_5_7b": Family("Qwen2.5 7B, YaRN", qwen2_5_7b, qwen2, oldest_rope, shards=2),
    "qwen3_0_6b": Family("Qwen3 0.6B", qwen3_0_6b, qwen2, old_rope),
    "qwen3_5_4b": Family("Qwen3.5 4B", qwen3_5_4b, qwen2, keep),
    "qwen3_5_35b": Family("Qwen3.5 35B-A3B", qwen3_5_35b, qwen2, keep, shards=2),
    "qwen3_8b": Family("Qwen3 8B, YaRN", qwen3_8b, qwen2, keep, shards=2),
}


def shake(model: torch.nn.Module) -> None:
    """Randomise norms and biases, and round everything to bfloat16, the type of the checkpoint.

    Norms of Gemma 3 and Qwen3.5 multiply by 1 + weight, but for those inside of Qwen's gated delta nets.
    """
    shifted = type(model).__name__.startswith(("Gemma3", "Qwen3_5"))
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if "norm" in name and tensor.is_floating_point():
            centre = 0.0 if shifted and "linear_attn" not in name else 1.0
            tensor.data = centre + 0.2 * torch.randn_like(tensor)
        if "mlp.gate.weight" in name or "experts." in name:
            tensor.data = (1.0 if "gate.weight" in name else 0.2) * torch.randn_like(tensor)
        if name.endswith(".bias"):
            tensor.data = 0.3 * torch.randn_like(tensor)
        if tensor.is_floating_point() and "inv_freq" not in name and "embed_scale" not in name:
            tensor.data = tensor.data.to(torch.bfloat16).to(torch.float32)
