"""The encoders as a Gemma 4 checkpoint, which gguf_convert makes a projector of."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from scripts.train.tiny_senses.encoders import MELS, audio_config, vision_config


def write_checkpoint(
    folder: Path, vision: nn.Module, audio: nn.Module, projection: torch.Tensor, target_width: int
) -> None:
    """Write configuration and weights; ``projection``: (width of the target, width of the encoders), for both."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.vision_tower.{name}": values for name, values in vision.state_dict().items()}
    tensors |= {f"model.audio_tower.{name}": values for name, values in audio.state_dict().items()}
    for part in ("vision", "audio"):
        tensors[f"model.embed_{part}.embedding_projection.weight"] = projection
    save_file({name: values.contiguous().clone() for name, values in tensors.items()}, folder / "model.safetensors")
    config = {
        "architectures": ["Gemma4ForConditionalGeneration"],
        "text_config": {"hidden_size": target_width},
        "vision_config": vision_config().to_dict(),
        "audio_config": {**audio_config().to_dict(), "input_feat_size": MELS},
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
