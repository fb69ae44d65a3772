"""Gemma 4's conformer for sound → projector ``gemma4a``.

Reference: llama.cpp, ``Gemma4VisionAudioModel`` in ``conversion/gemma.py`` and ``models/gemma4a.cpp``. The names of the
two norms of the convolution are exchanged in the file, as llama.cpp reads them.
"""

from __future__ import annotations

from collections.abc import Iterator

from gguf_convert.arch import MetadataValue
from gguf_convert.arch.decoder import MAX_LAYERS
from gguf_convert.checkpoint.json_fields import Fields
from gguf_convert.projector.sources import Reshaped, Softplus
from gguf_convert.projector.towers import TowerTensors
from gguf_convert.tensors import ModelTensor
from localspec.errors import ConvertError

#: Values that the graph of llama.cpp has built in; others are refused.
_COMPUTED = {
    "attention_chunk_size": 12, "attention_context_left": 13, "attention_context_right": 0, "conv_kernel_size": 5,
    "residual_weight": 0.5, "attention_logit_cap": 50.0,
}  # fmt: skip
_MELS, _CHANNELS = 128, [128, 32]


def audio_keys(audio: Fields, text: int) -> dict[str, MetadataValue]:
    """Return the keys of the encoder of sound."""
    for key, value in _COMPUTED.items():
        if audio.number(key, value) != value:
            raise ConvertError(
                f'{audio.where}: "{key}" is {audio.number(key):g}, but llama.cpp computes with {value:g}.'
            )
    if (activation := audio.text("hidden_act", "silu")) != "silu":
        raise ConvertError(f'{audio.where}: "hidden_act" is {activation}, but llama.cpp computes silu.')
    width = audio.integer("hidden_size")
    return {
        "has_audio_encoder": True,
        "audio.projector_type": "gemma4a",
        "audio.projection_dim": text,
        "audio.embedding_length": width,
        "audio.feed_forward_length": 4 * width,
        "audio.block_count": audio.integer("num_hidden_layers", high=MAX_LAYERS),
        "audio.attention.head_count": _heads(audio),
        "audio.num_mel_bins": audio.integer("input_feat_size", _MELS, high=256),
        "audio.attention.layer_norm_epsilon": audio.number("rms_norm_eps", 1e-6),
    }


def _heads(audio: Fields) -> int:
    width, heads = audio.integer("hidden_size"), audio.integer("num_attention_heads")
    if width % heads:
        raise ConvertError(f"{audio.where}: the width {width} does not divide into {heads} heads.")
    return heads


def audio_tensors(towers: TowerTensors, audio: Fields, text: int) -> Iterator[ModelTensor]:
    """Take the tensors of the encoder and of its projection."""
    tower, width, inner = "audio_tower.", audio.integer("hidden_size"), audio.integer("output_proj_dims", 1536)
    yield from _subsampling(towers, audio, width)
    limits = audio.boolean("use_clipped_linears", True)
    for index in range(audio.integer("num_hidden_layers", high=MAX_LAYERS)):
        yield from _layer(towers, f"{tower}layers.{index}.", f"a.blk.{index}.", width, width // _heads(audio), limits)
    yield ModelTensor("a.pre_encode.out.weight", towers.take(f"{tower}output_proj.weight", inner, width))
    yield ModelTensor("a.pre_encode.out.bias", towers.take(f"{tower}output_proj.bias", inner))
    yield ModelTensor(
        "mm.a.input_projection.weight", towers.take("embed_audio.embedding_projection.weight", text, inner)
    )


def _subsampling(towers: TowerTensors, audio: Fields, width: int) -> Iterator[ModelTensor]:
    channels = audio.values.get("subsampling_conv_channels", _CHANNELS)
    if not isinstance(channels, list) or len(channels) != 2 or not all(type(c) is int and c > 0 for c in channels):
        raise audio.fail("subsampling_conv_channels", "two numbers of channels")
    first, second = channels
    prefix = "audio_tower.subsample_conv_projection."
    for index, (inputs, outputs) in enumerate(((1, first), (first, second))):
        yield ModelTensor(
            f"a.conv1d.{index}.weight", towers.take(f"{prefix}layer{index}.conv.weight", outputs, inputs, 3, 3)
        )
        yield ModelTensor(f"a.conv1d.{index}.norm.weight", towers.take(f"{prefix}layer{index}.norm.weight", outputs))
    bins = -(-audio.integer("input_feat_size", _MELS, high=256) // 4)
    joined = towers.take(f"{prefix}input_proj_linear.weight", width, bins * second)
    yield ModelTensor("a.input_projection.weight", joined)


def _layer(towers: TowerTensors, prefix: str, block: str, width: int, head: int, limits: bool) -> Iterator[ModelTensor]:
    norms = {
        "norm_pre_attn": "attn_pre_norm", "norm_post_attn": "attn_post_norm", "norm_out": "ln2",
        "lconv1d.pre_layer_norm": "conv_norm", "lconv1d.conv_norm": "norm_conv",
        "feed_forward1.pre_layer_norm": "ffn_norm", "feed_forward1.post_layer_norm": "ffn_post_norm",
        "feed_forward2.pre_layer_norm": "ffn_norm_1", "feed_forward2.post_layer_norm": "ffn_post_norm_1",
    }  # fmt: skip
    matrices = {
        **{f"self_attn.{part}_proj": (f"attn_{part}", (width, width)) for part in "qkv"},
        "self_attn.post": ("attn_out", (width, width)),
        "lconv1d.linear_start": ("conv_pw1", (2 * width, width)),
        "lconv1d.linear_end": ("conv_pw2", (width, width)),
    }
    for number, short in ((1, ""), (2, "_1")):
        matrices[f"feed_forward{number}.ffw_layer_1"] = (f"ffn_up{short}", (4 * width, width))
        matrices[f"feed_forward{number}.ffw_layer_2"] = (f"ffn_down{short}", (width, 4 * width))
    for name, short in norms.items():
        yield ModelTensor(f"{block}{short}.weight", towers.take(f"{prefix}{name}.weight", width))
    for name, (short, shape) in matrices.items():
        yield from towers.limited(prefix + name, block + short, shape, limits)
    relative = towers.take(f"{prefix}self_attn.relative_k_proj.weight", width, width)
    yield ModelTensor(f"{block}attn_k_rel.weight", relative)
    scale = towers.take(f"{prefix}self_attn.per_dim_scale", head)
    yield ModelTensor(f"{block}per_dim_scale.weight", Softplus(scale))
    depthwise = towers.take(f"{prefix}lconv1d.depthwise_conv1d.weight", width, 1, 5)
    yield ModelTensor(f"{block}conv_dw.weight", Reshaped(depthwise, (width, 5)))
