"""Gemma 4's encoders → projectors ``gemma4v`` (pictures) and ``gemma4a`` (sound).

Reference: llama.cpp, ``Gemma4VisionAudioModel`` in ``conversion/gemma.py``, ``models/gemma4v.cpp`` and ``gemma4a.cpp``.
"""

from __future__ import annotations

from collections.abc import Iterator

from gguf_convert.arch import MetadataValue
from gguf_convert.arch.decoder import MAX_LAYERS, refuse, require
from gguf_convert.checkpoint.folder import Checkpoint
from gguf_convert.checkpoint.json_fields import Fields
from gguf_convert.projector.gemma4_audio import audio_keys, audio_tensors
from gguf_convert.projector.sources import planes
from gguf_convert.projector.towers import Projector, TowerTensors, picture_keys, text_width
from gguf_convert.tensors import ModelTensor
from localspec.errors import ConvertError

_NAME = "Gemma 4"
#: Side of a picture that llama.cpp wants to read, and does not use: pictures keep their proportions.
UNUSED_SIDE = 224
#: Pooling that llama.cpp assumes where the file names none.
POOLING = 3
_NORMS = {
    "input_layernorm.weight": "ln1.weight",
    "post_attention_layernorm.weight": "attn_post_norm.weight",
    "pre_feedforward_layernorm.weight": "ln2.weight",
    "post_feedforward_layernorm.weight": "ffn_post_norm.weight",
}


def map_towers(checkpoint: Checkpoint) -> Projector:
    """Map the encoders of a ``Gemma4ForConditionalGeneration`` checkpoint."""
    towers, vision = TowerTensors(checkpoint), checkpoint.config.object("vision_config")
    width = text_width(checkpoint.config)
    keys = {**vision_keys(vision, width, "gemma4v"), **_sizes(vision), **picture_keys(checkpoint, 0.0, 1.0)}
    tensors = [*_vision_tensors(towers, vision, width)]
    fixed = {"v.position_embd.weight": "F32"}
    if "audio_config" in checkpoint.config:
        audio = checkpoint.config.object("audio_config")
        keys |= audio_keys(audio, width)
        found = list(audio_tensors(towers, audio, width))
        fixed |= {tensor.name: "F32" for tensor in found if "conv1d" in tensor.name or "conv_dw" in tensor.name}
        fixed["a.input_projection.weight"] = "F32"
        tensors += found
    towers.refuse_leftovers()
    return Projector(keys, tuple(tensors), fixed)


def vision_keys(vision: Fields, text: int, kind: str) -> dict[str, MetadataValue]:
    """Return the keys that both kinds of Gemma 4 share."""
    keys: dict[str, MetadataValue] = {
        "has_vision_encoder": True,
        "vision.projector_type": kind,
        "vision.projection_dim": text,
        "vision.image_size": UNUSED_SIDE,
        "vision.patch_size": vision.integer("patch_size", 16, high=1024),
        "vision.attention.layer_norm_epsilon": vision.number("rms_norm_eps", 1e-6),
    }
    if (pooling := vision.integer("pooling_kernel_size", POOLING, high=64)) != POOLING:
        keys["vision.projector.scale_factor"] = pooling
    return keys


def _sizes(vision: Fields) -> dict[str, MetadataValue]:
    refuse(vision, "attention_bias", _NAME)
    width, heads = vision.integer("hidden_size"), vision.integer("num_attention_heads")
    if vision.integer("num_key_value_heads", heads) != heads or vision.integer("head_dim", 64) * heads != width:
        raise ConvertError(
            f"{vision.where}: {heads} heads with {vision.integer('num_key_value_heads', heads)} K/V heads of "
            f'"head_dim" {vision.integer("head_dim", 64)} do not make the width {width}, which llama.cpp needs.'
        )
    rope = vision.object("rope_parameters", required=False)
    if (theta := rope.number("rope_theta", 100.0)) != 100.0:
        raise ConvertError(f'{rope.where}: "rope_theta" is {theta:g}, but llama.cpp\'s {_NAME} computes with 100.')
    return {
        **_activation(vision),
        "vision.embedding_length": width,
        "vision.feed_forward_length": vision.integer("intermediate_size"),
        "vision.block_count": vision.integer("num_hidden_layers", high=MAX_LAYERS),
        "vision.attention.head_count": heads,
    }


def _activation(vision: Fields) -> dict[str, MetadataValue]:
    """Return the key of the activation. llama.cpp's converter omits it, so llama.cpp computes quick_gelu there."""
    if vision.text("hidden_activation", "") == "quick_gelu":
        return {}
    require(vision, "hidden_activation", "gelu_pytorch_tanh", _NAME)
    return {"use_gelu": True}


def _vision_tensors(towers: TowerTensors, vision: Fields, text: int) -> Iterator[ModelTensor]:
    width, inner, patch = (vision.integer(key) for key in ("hidden_size", "intermediate_size", "patch_size"))
    tower = "vision_tower."
    pixels = towers.take(f"{tower}patch_embedder.input_proj.weight", width, 3 * patch * patch)
    yield ModelTensor("v.patch_embd.weight", planes(pixels, patch))
    rows = vision.integer("position_embedding_size", 10240)
    positions = towers.take(f"{tower}patch_embedder.position_embedding_table", 2, rows, width)
    yield ModelTensor("v.position_embd.weight", positions)
    limits, head = vision.boolean("use_clipped_linears", False), vision.integer("head_dim", 64)
    matrices = {
        **{f"self_attn.{part}_proj": (f"attn_{part}", (width, width)) for part in "qkv"},
        "self_attn.o_proj": ("attn_out", (width, width)),
        "mlp.gate_proj": ("ffn_gate", (inner, width)),
        "mlp.up_proj": ("ffn_up", (inner, width)),
        "mlp.down_proj": ("ffn_down", (width, inner)),
    }
    norms = {name: (short, (width,)) for name, short in _NORMS.items()}
    norms |= {f"self_attn.{part}_norm.weight": (f"attn_{part}_norm.weight", (head,)) for part in "qk"}
    for index in range(vision.integer("num_hidden_layers", high=MAX_LAYERS)):
        prefix, block = f"{tower}encoder.layers.{index}.", f"v.blk.{index}."
        yield from towers.named(norms, prefix, block)
        for name, (short, shape) in matrices.items():
            yield from towers.limited(prefix + name, block + short, shape, limits)
    if vision.boolean("standardize", False):
        for name in ("std_bias", "std_scale"):
            yield ModelTensor(f"v.{name}", towers.take(tower + name, width))
    yield ModelTensor(
        "mm.input_projection.weight", towers.take("embed_vision.embedding_projection.weight", text, width)
    )
