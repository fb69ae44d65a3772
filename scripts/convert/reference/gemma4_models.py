"""Random models with the traits of each Gemma 4 size and of its assistant, made by transformers.

Every size has the class, the configuration layout and the names of the real checkpoint, other modalities included;
only the numbers are small. ``scale`` widens them: 1 for what the tests store, 4 for some megabytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    Gemma4AssistantConfig,
    Gemma4AssistantForCausalLM,
    Gemma4AudioConfig,
    Gemma4Config,
    Gemma4ForConditionalGeneration,
    Gemma4TextConfig,
    Gemma4UnifiedAudioConfig,
    Gemma4UnifiedConfig,
    Gemma4UnifiedForConditionalGeneration,
    Gemma4UnifiedTextConfig,
    Gemma4UnifiedVisionConfig,
    Gemma4VisionConfig,
)
from transformers.models.gemma4_unified_assistant import (
    Gemma4UnifiedAssistantConfig,
    Gemma4UnifiedAssistantForCausalLM,
)

WINDOW = 64
SLIDING, FULL = "sliding_attention", "full_attention"


# Google's checkpoints of the unified kind carry the keys of its sisters, which its configuration class drops
UNIFIED_TEXT = {
    "enable_moe_block": False,
    "hidden_size_per_layer_input": 0,
    "moe_intermediate_size": None,
    "num_experts": None,
    "top_k_experts": None,
    "vocab_size_per_layer_input": 0,
}


@dataclass(frozen=True)
class Size:
    """One size: the row of the table, how to make the model and its assistant, and how the checkpoint is saved.

    ``text_config`` is what the real configuration says beyond what transformers saves.
    """

    label: str
    target: Callable[[int], torch.nn.Module]
    assistant: Callable[[int], torch.nn.Module] | None
    shards: int = 1
    suppress: tuple[int, ...] = ()
    text_config: Mapping[str, Any] | None = None


def vocabulary(scale: int) -> int:
    return 320 if scale == 1 else 512 * scale


def _shared(scale: int, **changes: Any) -> dict[str, Any]:
    width = 32 * scale
    return {
        "vocab_size": vocabulary(scale),
        "hidden_size": width,
        "head_dim": 16 * min(scale, 4),
        "global_head_dim": 32 * min(scale, 4),
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "sliding_window": WINDOW,
        "max_position_embeddings": 1024,
        "initializer_range": 0.6 / width**0.5,
        "final_logit_softcapping": 30.0,
        **changes,
    }


def _small(scale: int, **changes: Any) -> Gemma4TextConfig:
    """What E2B and E4B share: per-layer embeddings, and last layers that read the K/V of earlier ones."""
    layers = [SLIDING, FULL, SLIDING, FULL]
    return Gemma4TextConfig(
        **_shared(
            scale,
            **{
                "intermediate_size": 32 * scale,
                "num_hidden_layers": len(layers),
                "layer_types": layers,
                "num_kv_shared_layers": 2,
                "vocab_size_per_layer_input": vocabulary(scale),
                "hidden_size_per_layer_input": 32,
                **changes,
            },
        )
    )


def _large(scale: int, kind: type[Gemma4TextConfig | Gemma4UnifiedTextConfig], **changes: Any) -> Any:
    """What 12B, 26B-A4B and 31B share: V = K and fewer K/V heads in full layers, images seen in both directions."""
    if kind is Gemma4TextConfig:
        changes = {"vocab_size_per_layer_input": 0, "hidden_size_per_layer_input": 0, **changes}
    layers = [SLIDING, FULL, SLIDING, FULL]
    return kind(
        **_shared(
            scale,
            **{
                "intermediate_size": 32 * scale,
                "num_hidden_layers": len(layers),
                "layer_types": layers,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "num_global_key_value_heads": 1,
                "attention_k_eq_v": True,
                "use_bidirectional_attention": "vision",
                **changes,
            },
        )
    )


def _with_towers(text: Gemma4TextConfig, *, audio: bool) -> Gemma4ForConditionalGeneration:
    vision = Gemma4VisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        patch_size=4,
        position_embedding_size=8,
    )
    sound = Gemma4AudioConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        subsampling_conv_channels=[2, 2],
        output_proj_dims=16,
    )
    config = Gemma4Config(text_config=text, vision_config=vision, audio_config=sound if audio else None)
    return Gemma4ForConditionalGeneration(config)


def _unified(scale: int) -> Gemma4UnifiedForConditionalGeneration:
    text = _large(scale, Gemma4UnifiedTextConfig)
    vision = Gemma4UnifiedVisionConfig(
        patch_size=2, pooling_kernel_size=2, mm_embed_dim=16, mm_posemb_size=4, output_proj_dims=text.hidden_size
    )
    audio = Gemma4UnifiedAudioConfig(audio_embed_dim=16)
    return Gemma4UnifiedForConditionalGeneration(
        Gemma4UnifiedConfig(text_config=text, vision_config=vision, audio_config=audio)
    )


def _experts(scale: int) -> Gemma4ForConditionalGeneration:
    layers = [SLIDING, SLIDING, FULL]
    text = _large(
        scale,
        Gemma4TextConfig,
        num_hidden_layers=len(layers),
        layer_types=layers,
        num_attention_heads=2,
        enable_moe_block=True,
        num_experts=8,
        top_k_experts=2,
        moe_intermediate_size=32 * scale,
    )
    return _with_towers(text, audio=False)


def _assistant_text(scale: int, kind: type[Gemma4TextConfig | Gemma4UnifiedTextConfig], **changes: Any) -> Any:
    if kind is Gemma4TextConfig:
        changes = {"vocab_size_per_layer_input": 0, "hidden_size_per_layer_input": 0, **changes}
    layers = [SLIDING, FULL]
    return kind(
        **_shared(
            scale,
            **{
                "hidden_size": 64 * scale,
                "intermediate_size": 32 * scale,
                "num_hidden_layers": len(layers),
                "layer_types": layers,
                "num_kv_shared_layers": len(layers),
                "final_logit_softcapping": None,
                **changes,
            },
        )
    )


def _assistant(scale: int, heads: int = 2, local: int = 1, *, ordered: bool = False) -> Gemma4AssistantForCausalLM:
    changes = {"num_attention_heads": heads, "num_key_value_heads": local}
    if local > 1:  # as its target
        changes |= {"num_global_key_value_heads": 1, "attention_k_eq_v": True}
    text = _assistant_text(scale, Gemma4TextConfig, **changes)
    config = Gemma4AssistantConfig(
        text_config=text,
        backbone_hidden_size=32 * scale,
        use_ordered_embeddings=ordered,
        num_centroids=8,
        centroid_intermediate_top_k=4,
    )
    return Gemma4AssistantForCausalLM(config)


def _unified_assistant(scale: int) -> Gemma4UnifiedAssistantForCausalLM:
    changes = {"num_attention_heads": 4, "num_key_value_heads": 2}
    text = _assistant_text(
        scale, Gemma4UnifiedTextConfig, num_global_key_value_heads=1, attention_k_eq_v=True, **changes
    )
    return Gemma4UnifiedAssistantForCausalLM(
        Gemma4UnifiedAssistantConfig(text_config=text, backbone_hidden_size=32 * scale)
    )


SIZES = {
    "gemma4_e2b": Size(
        "Gemma 4 E2B",
        lambda scale: _with_towers(
            _small(
                scale,
                use_double_wide_mlp=True,
                num_hidden_layers=5,
                layer_types=[SLIDING, SLIDING, FULL, SLIDING, FULL],
            ),
            audio=True,
        ),
        lambda scale: _assistant(scale, ordered=True),
    ),
    "gemma4_e4b": Size(
        "Gemma 4 E4B",
        lambda scale: _with_towers(_small(scale, num_key_value_heads=2), audio=True),
        None,  # as E2B's
    ),
    "gemma4_12b": Size("Gemma 4 12B unified", _unified, _unified_assistant, suppress=(7, 8), text_config=UNIFIED_TEXT),
    "gemma4_26b_a4b": Size("Gemma 4 26B-A4B", _experts, lambda scale: _assistant(scale, heads=2, local=2)),
    "gemma4_31b": Size(
        "Gemma 4 31B",
        lambda scale: _with_towers(_large(scale, Gemma4TextConfig), audio=False),
        lambda scale: _assistant(scale, heads=4, local=2),
        shards=2,
    ),
}
