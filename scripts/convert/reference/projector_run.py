"""Embeddings that transformers computes of a picture or a sound for the text model.

The processors' own choice of a size is left out: pictures come in the size that llama.cpp gives them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers.models.gemma4.feature_extraction_gemma4 import Gemma4AudioFeatureExtractor
from transformers.models.gemma4.image_processing_pil_gemma4 import convert_image_to_patches

_FRAME = 640
#: Floor of the energy of a mel band.
_FLOOR = 1e-3


@torch.no_grad()
def embed_picture(model: Any, picture: np.ndarray) -> np.ndarray:
    """Embed a picture of (height, width, 3) bytes: (soft tokens, width of the text model)."""
    if type(model).__name__.startswith("Gemma3"):
        inputs = [pixels_of_gemma3(model, picture)]
    else:
        inputs = [values[None] for values in patches_of(model, picture)]
    found = model.model.get_image_features(*inputs).pooler_output
    return found.reshape(-1, model.config.text_config.hidden_size).float().numpy()


def patches_of(model: Any, picture: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches of a picture, (count, values), and the column and row of each, (count, 2)."""
    vision = model.config.vision_config
    side = vision.patch_size * (vision.pooling_kernel_size if "Unified" in type(model).__name__ else 1)
    patches = convert_image_to_patches(picture.transpose(2, 0, 1).astype(np.float32) / 255, side)
    across, down = picture.shape[1] // side, picture.shape[0] // side
    x, y = np.meshgrid(np.arange(across), np.arange(down), indexing="xy")
    return torch.tensor(patches), torch.tensor(np.stack([x, y], -1).reshape(-1, 2))


def pixels_of_gemma3(model: Any, picture: np.ndarray) -> torch.Tensor:
    """A picture, stretched to the one size that the encoder reads: (1, 3, side, side)."""
    from PIL import Image

    side = model.config.vision_config.image_size
    resized = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR), np.float32)
    return torch.tensor((resized / 255 - 0.5) / 0.5).permute(2, 0, 1)[None]


@torch.no_grad()
def embed_sound(model: Any, sound: np.ndarray, *, cut: bool = False) -> np.ndarray:
    """Embed samples at 16 kHz from -1 to 1: (soft tokens, width of the text model). ``cut``: as below."""
    features = sound_features(model, sound, cut=cut)
    if "Unified" in type(model).__name__:
        return model.model.embed_audio(features)[0].numpy()
    mask = torch.ones(features.shape[:2], dtype=torch.bool)
    return model.model.get_audio_features(features, mask).pooler_output[0].numpy()


def sound_features(model: Any, sound: np.ndarray, *, cut: bool = False) -> torch.Tensor:
    """Inputs of the encoder, (1, frames, values).

    ``cut``: the least energy of a band is the largest of it and a floor, as in llama.cpp; transformers adds the floor.
    """
    if "Unified" in type(model).__name__:
        frames = np.zeros((-(-len(sound) // _FRAME), _FRAME), np.float32)
        frames.reshape(-1)[: len(sound)] = sound
        return torch.tensor(frames)[None]
    features = Gemma4AudioFeatureExtractor()(
        [sound], sampling_rate=16000, return_tensors="pt", padding=False, pad_to_multiple_of=None
    )
    found: torch.Tensor = features["input_features"]
    return (found.double().exp() - _FLOOR).clamp(min=_FLOOR).log().float() if cut else found
