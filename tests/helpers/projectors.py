"""A small random projector of Gemma 4's kind for the built-in pair: vision (gemma4v) and audio (gemma4a)."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

#: Width of the built-in target's embeddings.
WIDTH = 192


def write_projector(
    path: Path,
    *,
    width: int = WIDTH,
    seed: int = 0,
    patch: int = 8,
    positions: int = 512,
    vision: bool = True,
    audio: bool = True,
    scale: float = 1.0,
    encoder: tuple[int, int, int, int] = (32, 64, 1, 2),
) -> Path:
    """Write the file. ``width``: of the embeddings that it makes; ``scale`` of its last matrices.

    ``encoder`` of pictures: width, width of the feed-forward, layers, heads.
    """
    draw = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_string("general.type", "mmproj")
    writer.add_bool("clip.has_vision_encoder", vision)
    writer.add_bool("clip.has_audio_encoder", audio)
    if vision:
        _vision(writer, draw, width, patch, positions, scale, encoder)
    if audio:
        _audio(writer, draw, width, scale)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _normal(draw: np.random.Generator, *shape: int, scale: float | None = None) -> np.ndarray:
    return (draw.normal(size=shape) * (scale or shape[-1] ** -0.5)).astype(np.float32)


def _vision(
    writer: gguf.GGUFWriter,
    draw: np.random.Generator,
    width: int,
    patch: int,
    positions: int,
    scale: float,
    encoder: tuple[int, int, int, int],
) -> None:
    n, forward, layers, heads = encoder
    head = n // heads
    for key, value in (
        ("image_size", 96), ("patch_size", patch), ("embedding_length", n), ("feed_forward_length", forward),
        ("block_count", layers), ("attention.head_count", heads), ("projection_dim", width),
        ("projector.scale_factor", 3),
    ):  # fmt: skip
        writer.add_uint32(f"clip.vision.{key}", value)
    writer.add_string("clip.vision.projector_type", "gemma4v")
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
    writer.add_array("clip.vision.image_mean", [0.0, 0.0, 0.0])
    writer.add_array("clip.vision.image_std", [1.0, 1.0, 1.0])
    tensors = {
        "v.patch_embd.weight": _normal(draw, n, 3, patch, patch, scale=(3 * patch * patch) ** -0.5),
        "v.position_embd.weight": _normal(draw, 2, positions, n, scale=0.3),
        "mm.input_projection.weight": _normal(draw, width, n) * np.float32(scale),
    }
    for i in range(layers):
        for name, shape in (
            ("attn_q", (n, n)), ("attn_k", (n, n)), ("attn_v", (n, n)), ("attn_out", (n, n)),
            ("ffn_gate", (forward, n)), ("ffn_up", (forward, n)), ("ffn_down", (n, forward)),
        ):  # fmt: skip
            tensors[f"v.blk.{i}.{name}.weight"] = _normal(draw, *shape)
        for name in ("ln1", "ln2", "attn_post_norm", "ffn_post_norm"):
            tensors[f"v.blk.{i}.{name}.weight"] = np.ones(n, np.float32)
        for name in ("attn_q_norm", "attn_k_norm"):
            tensors[f"v.blk.{i}.{name}.weight"] = np.ones(head, np.float32)
    for name, values in tensors.items():
        writer.add_tensor(name, values)


def _audio(writer: gguf.GGUFWriter, draw: np.random.Generator, width: int, scale: float) -> None:
    n, layers, heads, bins, channels = 32, 1, 2, 128, (8, 4)
    for key, value in (
        ("num_mel_bins", bins), ("embedding_length", n), ("feed_forward_length", 4 * n), ("block_count", layers),
        ("attention.head_count", heads), ("projection_dim", width),
    ):  # fmt: skip
        writer.add_uint32(f"clip.audio.{key}", value)
    writer.add_string("clip.audio.projector_type", "gemma4a")
    writer.add_float32("clip.audio.attention.layer_norm_epsilon", 1e-6)
    tensors = {
        "a.conv1d.0.weight": _normal(draw, channels[0], 1, 3, 3, scale=0.3),
        "a.conv1d.0.norm.weight": np.ones(channels[0], np.float32),
        "a.conv1d.1.weight": _normal(draw, channels[1], channels[0], 3, 3, scale=0.1),
        "a.conv1d.1.norm.weight": np.ones(channels[1], np.float32),
        "a.input_projection.weight": _normal(draw, n, channels[1] * bins // 4),
        "a.pre_encode.out.weight": _normal(draw, n, n),
        "a.pre_encode.out.bias": _normal(draw, n, scale=0.1),
        "mm.a.input_projection.weight": _normal(draw, width, n) * np.float32(scale),
    }
    for i in range(layers):
        for name, shape in (
            ("attn_q", (n, n)), ("attn_k", (n, n)), ("attn_v", (n, n)), ("attn_out", (n, n)), ("attn_k_rel", (n, n)),
            ("ffn_up", (4 * n, n)), ("ffn_down", (n, 4 * n)), ("ffn_up_1", (4 * n, n)), ("ffn_down_1", (n, 4 * n)),
            ("conv_pw1", (2 * n, n)), ("conv_pw2", (n, n)), ("conv_dw", (n, 5)),
        ):  # fmt: skip
            tensors[f"a.blk.{i}.{name}.weight"] = _normal(draw, *shape)
        for name in (
            "ln1", "ln2", "attn_pre_norm", "attn_post_norm", "ffn_norm", "ffn_post_norm", "ffn_norm_1",
            "ffn_post_norm_1", "conv_norm", "norm_conv",
        ):  # fmt: skip
            tensors[f"a.blk.{i}.{name}.weight"] = np.ones(n, np.float32)
        tensors[f"a.blk.{i}.per_dim_scale.weight"] = np.ones(n // heads, np.float32)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
