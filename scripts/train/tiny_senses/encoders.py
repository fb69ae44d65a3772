"""The two encoders, in Gemma 4's layout: a picture transformer without pooling, and a sound conformer."""

from __future__ import annotations

import math

import torch
from transformers import Gemma4AudioConfig, Gemma4VisionConfig
from transformers.models.gemma4.modeling_gemma4 import Gemma4AudioModel, Gemma4VisionModel

from scripts.train.tiny_senses.pictures import PATCH, WIDTH, waves

MELS = 64
#: Rows of the table of positions: the longest side of a picture, in patches.
ROWS = 352


def vision_config() -> Gemma4VisionConfig:
    return Gemma4VisionConfig(
        hidden_size=WIDTH, intermediate_size=192, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=4,
        head_dim=16, patch_size=PATCH, pooling_kernel_size=1, position_embedding_size=ROWS,
        hidden_activation="quick_gelu",
    )  # fmt: skip


def audio_config() -> Gemma4AudioConfig:
    return Gemma4AudioConfig(
        hidden_size=WIDTH, num_hidden_layers=4, num_attention_heads=4, subsampling_conv_channels=[MELS, 8],
        output_proj_dims=WIDTH, use_clipped_linears=False,
    )  # fmt: skip


def make_vision() -> Gemma4VisionModel:
    model = Gemma4VisionModel(vision_config())
    initialise(model)
    embedder = model.patch_embedder
    embedder.position_embedding_table.data = position_table(ROWS)
    embedder.input_proj.weight.data = torch.from_numpy(waves().reshape(WIDTH, -1))
    embedder.requires_grad_(False)
    return model


def make_audio() -> Gemma4AudioModel:
    model = Gemma4AudioModel(audio_config())
    initialise(model)
    return model


def position_table(count: int) -> torch.Tensor:
    """Return fixed positions, (2, count, WIDTH): the place in a block of four, and waves of seven lengths."""
    at = torch.arange(count).float()
    table = torch.zeros(2, count, WIDTH)
    for axis in range(2):
        first = axis * WIDTH // 2
        table[axis, torch.arange(count), first + torch.arange(count) % 4] = 1.0
        for number in range(7):
            angle = at * 2 * math.pi / (8 * 1.6**number)
            table[axis, :, first + 4 + 2 * number] = 0.5 * angle.sin()
            table[axis, :, first + 5 + 2 * number] = 0.5 * angle.cos()
    return table


def normalise(values: torch.Tensor) -> torch.Tensor:
    """Scale vectors to a mean square of 1, as the projection of the file does."""
    return values * torch.rsqrt(values.pow(2).mean(-1, keepdim=True) + 1e-6)


@torch.no_grad()
def initialise(model: torch.nn.Module) -> None:
    for name, values in model.named_parameters():
        if "q_norm" in name or "k_norm" in name:  # Gemma 4 scales attention by 1
            values.fill_((1.5 / values.shape[0] ** 0.5) ** 0.5)
        elif "post_" in name and "norm" in name:
            values.fill_(0.3)
        elif values.ndim >= 2:
            values.normal_(0.0, values[0].numel() ** -0.5)


def see(model: Gemma4VisionModel, embedded: torch.Tensor, across: int) -> torch.Tensor:
    """Encode embedded patches of pictures of one grid: (pictures, patches, WIDTH) → the same shape.

    transformers 5.12.1 inverts the mask of padding where nothing is pooled, so its parts are called here.
    """
    count = torch.arange(embedded.shape[1])
    positions = torch.stack([count % across, count // across], -1).expand(len(embedded), -1, -1)
    mask = torch.ones(embedded.shape[:2], dtype=torch.bool)
    table = model.patch_embedder.position_embedding_table
    embedded = embedded + table[0, positions[..., 0]] + table[1, positions[..., 1]]
    encoded = model.encoder(inputs_embeds=embedded, attention_mask=mask, pixel_position_ids=positions)
    return encoded.last_hidden_state * WIDTH**0.5
