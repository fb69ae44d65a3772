"""Random models with every kind of picture and sound encoder, in the real layout and with small widths.

Patches, pooling, mel bins, frames of sound and the names of the tensors are those of the real checkpoints; only widths,
layers and vocabularies are small.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
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

from scripts.convert.reference.gemma4_models import FULL, SLIDING, _large, _small

#: Rows of the table of positions in each direction: the widest picture of the tests has 60 patches of 16 pixels.
POSITIONS = 96


def _vision(**changes: Any) -> Gemma4VisionConfig:
    return Gemma4VisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        position_embedding_size=POSITIONS,
        **changes,
    )


def _audio() -> Gemma4AudioConfig:
    return Gemma4AudioConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        subsampling_conv_channels=[128, 4],
        output_proj_dims=48,
    )


def small_gemma4() -> Gemma4ForConditionalGeneration:
    """Return what E2B and E4B have: clipped matrices, and sound."""
    layers = [SLIDING, SLIDING, FULL, SLIDING, FULL]
    text = _small(1, use_double_wide_mlp=True, num_hidden_layers=len(layers), layer_types=layers)
    config = Gemma4Config(text_config=text, vision_config=_vision(use_clipped_linears=True), audio_config=_audio())
    return Gemma4ForConditionalGeneration(config)


def large_gemma4() -> Gemma4ForConditionalGeneration:
    """Return what 26B-A4B and 31B have: standardized pictures seen in both directions, and no sound."""
    text = _large(1, Gemma4TextConfig)
    config = Gemma4Config(text_config=text, vision_config=_vision(standardize=True), audio_config=None)
    return Gemma4ForConditionalGeneration(config)


def unified_gemma4() -> Gemma4UnifiedForConditionalGeneration:
    """Return what the unified 12B has: patches of 48 pixels and frames of 640 samples, without a transformer."""
    text = _large(1, Gemma4UnifiedTextConfig)
    vision = Gemma4UnifiedVisionConfig(mm_embed_dim=16, mm_posemb_size=POSITIONS // 3, output_proj_dims=16)
    config = Gemma4UnifiedConfig(text_config=text, vision_config=vision, audio_config=Gemma4UnifiedAudioConfig())
    return Gemma4UnifiedForConditionalGeneration(config)


def gemma3() -> Gemma3ForConditionalGeneration:
    """Return what Gemma 3 has from 4B on: SigLIP on pictures of one size."""
    from scripts.convert.reference.family_models import gemma3_text

    vision = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 224, "patch_size": 14, "vision_use_head": False,
    }  # fmt: skip
    config = Gemma3Config(text_config=gemma3_text(1), vision_config=vision, mm_tokens_per_image=16)
    return Gemma3ForConditionalGeneration(config)


MODELS: dict[str, Callable[[], torch.nn.Module]] = {
    "gemma4_e2b": small_gemma4,
    "gemma4_31b": large_gemma4,
    "gemma4_12b": unified_gemma4,
    "gemma3_4b": gemma3,
}


@torch.no_grad()
def enliven(model: torch.nn.Module) -> None:
    """Give towers and projections values at which every tensor matters: wide weights, biases, norms and limits."""
    saved = model.state_dict()
    for name, values in [*model.named_parameters(), *model.named_buffers()]:
        if name not in saved or "language_model" in name or not values.is_floating_point():
            continue
        if name.endswith(("input_min", "output_min")):
            values.fill_(-2.5)
        elif name.endswith(("input_max", "output_max")):
            values.fill_(2.0)
        elif name.endswith(("std_bias", "per_dim_scale")) or name.endswith("bias"):
            values.normal_(0.0, 0.3)
        elif name.endswith(("norm.weight", "norm1.weight", "norm2.weight", "std_scale")) or "_ln" in name:
            values.normal_(1.0, 0.2)
        elif "position_embedding" in name or "pos_embedding" in name:
            values.normal_(0.0, 0.5)
        elif values.ndim >= 2:
            values.normal_(0.0, (values[0].numel()) ** -0.5)
