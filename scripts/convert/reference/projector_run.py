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
    kind = type(model).__name__
    if kind.startswith("Gemma3"):
        return _gemma3(model, picture)
    vision = model.config.vision_config
    side = vision.patch_size * (vision.pooling_kernel_size if "Unified" in kind else 1)
    patches = convert_image_to_patches(picture.transpose(2, 0, 1).astype(np.float32) / 255, side)
    across, down = picture.shape[1] // side, picture.shape[0] // side
    x, y = np.meshgrid(np.arange(across), np.arange(down), indexing="xy")
    positions = torch.tensor(np.stack([x, y], -1).reshape(1, -1, 2))
    found = model.model.get_image_features(torch.tensor(patches)[None], positions)
    return found.pooler_output.reshape(-1, model.config.text_config.hidden_size).float().numpy()


def _gemma3(model: Any, picture: np.ndarray) -> np.ndarray:
    from PIL import Image

    side = model.config.vision_config.image_size
    resized = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR), np.float32)
    pixels = torch.tensor((resized / 255 - 0.5) / 0.5).permute(2, 0, 1)[None]
    return (
        model.model.get_image_features(pixels).pooler_output.reshape(-1, model.config.text_config.hidden_size).numpy()
    )


@torch.no_grad()
def embed_sound(model: Any, sound: np.ndarray, *, cut: bool = False) -> np.ndarray:
    """Embed samples at 16 kHz from -1 to 1: (soft tokens, width of the text model).

    ``cut``: the least energy of a band is the largest of it and a floor, as in llama.cpp; transformers adds the floor.
    """
    if "Unified" in type(model).__name__:
        frames = np.zeros((-(-len(sound) // _FRAME), _FRAME), np.float32)
        frames.reshape(-1)[: len(sound)] = sound
        return model.model.embed_audio(torch.tensor(frames)[None])[0].numpy()
    features = Gemma4AudioFeatureExtractor()(
        [sound], sampling_rate=16000, return_tensors="pt", padding=False, pad_to_multiple_of=None
    )
    found = features["input_features"]
    if cut:
        found = (found.double().exp() - _FLOOR).clamp(min=_FLOOR).log().float()
    mask = torch.ones(found.shape[:2], dtype=torch.bool)
    return model.model.get_audio_features(found, mask).pooler_output[0].numpy()
