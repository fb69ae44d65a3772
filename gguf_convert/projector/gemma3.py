"""Gemma 3's SigLIP encoder of pictures → projector ``gemma3``.

Reference: llama.cpp, ``Gemma3VisionModel`` in ``conversion/gemma.py`` and ``models/siglip.cpp``. The norm before the
projection is Gemma's, which multiplies by 1 + weight.
"""

from __future__ import annotations

from collections.abc import Iterator

from gguf_convert.arch import MetadataValue
from gguf_convert.arch.decoder import MAX_LAYERS, require
from gguf_convert.arch.gemma3 import PlusOne
from gguf_convert.checkpoint.folder import Checkpoint
from gguf_convert.checkpoint.json_fields import Fields
from gguf_convert.projector.towers import Projector, TowerTensors, picture_keys, text_width
from gguf_convert.tensors import ModelTensor
from localspec.errors import ConvertError

#: Soft tokens of a picture, and the pooling that llama.cpp assumes where the file names none.
_TOKENS, _POOLING = 256, 4
_NAME = "Gemma 3"
#: Types that llama.cpp's converter gives whatever the type of the file is.
_FIXED = {"mm.input_projection.weight": "F16", "v.patch_embd.weight": "F32", "v.position_embd.weight": "F32"}


def map_towers(checkpoint: Checkpoint) -> Projector:
    """Map the encoder of a ``Gemma3ForConditionalGeneration`` checkpoint."""
    towers, vision = TowerTensors(checkpoint), checkpoint.config.object("vision_config")
    require(vision, "hidden_act", "gelu_pytorch_tanh", _NAME)
    text = text_width(checkpoint.config)
    keys = {**_keys(checkpoint, vision, text), **picture_keys(checkpoint, 0.5, 0.5)}
    tensors = tuple(_tensors(towers, vision, text))
    for name in [name for name in towers.left if name.startswith("vision_tower.head.")]:
        del towers.left[name]  # SigLIP's own head, which Gemma does not use
    towers.refuse_leftovers()
    return Projector(keys, tensors, _FIXED)


def _keys(checkpoint: Checkpoint, vision: Fields, text: int) -> dict[str, MetadataValue]:
    keys: dict[str, MetadataValue] = {
        "has_vision_encoder": True,
        "projector_type": "gemma3",
        "vision.projection_dim": text,
        "vision.image_size": vision.integer("image_size"),
        "vision.patch_size": vision.integer("patch_size"),
        "vision.embedding_length": vision.integer("hidden_size"),
        "vision.feed_forward_length": vision.integer("intermediate_size"),
        "vision.block_count": vision.integer("num_hidden_layers", high=MAX_LAYERS),
        "vision.attention.head_count": vision.integer("num_attention_heads"),
        "vision.attention.layer_norm_epsilon": vision.number("layer_norm_eps", 1e-6),
        "use_gelu": True,
    }
    side, tokens = _patches_across(vision), checkpoint.config.integer("mm_tokens_per_image", _TOKENS)
    across = round(tokens**0.5)
    if across * across != tokens or side % across:
        raise ConvertError(f"{tokens} soft tokens do not divide {side} × {side} patches of a picture evenly.")
    if side // across != _POOLING:
        keys["vision.projector.scale_factor"] = side // across
    return keys


def _patches_across(vision: Fields) -> int:
    size, patch = vision.integer("image_size"), vision.integer("patch_size")
    if size % patch:
        raise ConvertError(f"{vision.where}: pictures of {size} pixels do not divide into patches of {patch}.")
    return size // patch


def _tensors(towers: TowerTensors, vision: Fields, text: int) -> Iterator[ModelTensor]:
    tower, patch = "vision_tower.", vision.integer("patch_size")
    width, inner = vision.integer("hidden_size"), vision.integer("intermediate_size")
    ends = {
        "embeddings.patch_embedding.weight": ("patch_embd.weight", (width, 3, patch, patch)),
        "embeddings.patch_embedding.bias": ("patch_embd.bias", (width,)),
        "embeddings.position_embedding.weight": ("position_embd.weight", (_patches_across(vision) ** 2, width)),
        "post_layernorm.weight": ("post_ln.weight", (width,)),
        "post_layernorm.bias": ("post_ln.bias", (width,)),
    }
    yield from towers.named(ends, tower, "v.")
    layer: dict[str, tuple[str, tuple[int, ...]]] = {}
    for number in (1, 2):
        layer |= {f"layer_norm{number}.{end}": (f"ln{number}.{end}", (width,)) for end in ("weight", "bias")}
    matrices = {f"self_attn.{name}": (f"attn_{name[0]}", width, width) for name in ("q_proj", "k_proj", "v_proj")}
    matrices["self_attn.out_proj"] = ("attn_out", width, width)
    matrices |= {"mlp.fc1": ("ffn_up", inner, width), "mlp.fc2": ("ffn_down", width, inner)}
    for name, (short, rows, columns) in matrices.items():
        layer[f"{name}.weight"] = (f"{short}.weight", (rows, columns))
        layer[f"{name}.bias"] = (f"{short}.bias", (rows,))
    for index in range(vision.integer("num_hidden_layers", high=MAX_LAYERS)):
        yield from towers.named(layer, f"{tower}encoder.layers.{index}.", f"v.blk.{index}.")
    prefix = "multi_modal_projector."
    yield ModelTensor("mm.input_projection.weight", towers.take(f"{prefix}mm_input_projection_weight", width, text))
    norm = towers.take(f"{prefix}mm_soft_emb_norm.weight", width)
    yield ModelTensor("mm.soft_emb_norm.weight", PlusOne(norm))
