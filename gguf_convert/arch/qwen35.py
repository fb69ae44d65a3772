"""Qwen3.5 and 3.6 → GGUF architecture ``qwen35``, with experts ``qwen35moe``: gated delta nets and prediction heads.

Reference: llama.cpp, ``conversion/qwen.py`` (Qwen3_5TextModel, Qwen3_5MoeTextModel) and ``src/models/qwen35.cpp``.
Experts are tensors of their own, or one of gates and ups and one of downs for all. llama.cpp repeats the
groups of keys one after another, transformers each in its place: heads of values are reordered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from gguf_convert.arch import MetadataValue, ModelMap
from gguf_convert.arch.decoder import (
    Decoder,
    LayerParts,
    Part,
    head_lengths,
    layer_parts,
    map_decoder,
    read_decoder,
    refuse,
    require,
    sizes,
)
from gguf_convert.arch.gemma3 import PlusOne
from gguf_convert.arch.qwen35_experts import expert_numbers, forward, is_joint
from gguf_convert.arch.reordered import Columns, Computed, RowsInOrder, heads_by_group
from gguf_convert.arch.rope import read_rope, rope_metadata
from gguf_convert.checkpoint.folder import Checkpoint
from gguf_convert.checkpoint.json_fields import Fields
from gguf_convert.tensors import TensorSource
from localspec.errors import ConvertError

_DEFAULTS = {
    "rms_norm_eps": 1e-6, "tie_word_embeddings": False, "head_dim": 256, "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_num_key_heads": 16, "linear_num_value_heads": 32,
    "full_attention_interval": 4, "mtp_num_hidden_layers": 0, "intermediate_size": 1,
}  # fmt: skip
_THETA, _ROTARY, _SECTIONS = 1e7, 0.25, [11, 11, 10]
_NAME = "Qwen3.5"
_LINEAR, _FULL = "linear_attention", "full_attention"
#: Name of a head's own tensors in the checkpoint → in the GGUF file.
_HEAD = {
    "mtp.pre_fc_norm_embedding.weight": "nextn.enorm.weight",
    "mtp.pre_fc_norm_hidden.weight": "nextn.hnorm.weight",
    "mtp.norm.weight": "nextn.shared_head_norm.weight",
}


def map_model(checkpoint: Checkpoint) -> ModelMap:
    """Map a ``Qwen3_5ForCausalLM`` checkpoint, or the text model of a ``Qwen3_5ForConditionalGeneration``."""
    decoder = read_decoder(checkpoint.config, _DEFAULTS)
    fields = decoder.fields
    experts = "num_experts" in fields
    require(fields, "hidden_act", "silu", _NAME)
    refuse(fields, "attention_bias", _NAME)
    nets = _Nets.read(fields)
    heads = _heads(checkpoint, fields)
    kinds = _kinds(decoder)
    joint = {name for name in ("layers.0", "mtp.layers.0") if is_joint(checkpoint, name)}
    full, linear = (make | forward(decoder, "layers.0" in joint) for make in (_full(decoder), _linear(decoder, nets)))
    layers: list[LayerParts] = [full if kind == _FULL else linear for kind in kinds]
    metadata = {
        **sizes(decoder),
        **head_lengths(decoder),
        **_rope(decoder),
        **nets.metadata(),
        "full_attention_interval": fields.integer("full_attention_interval"),
        "attention.recurrent_layers": [kind == _LINEAR for kind in kinds] + [False] * heads,
    }
    if experts:
        metadata |= expert_numbers(decoder)
    if heads:
        metadata |= {"block_count": decoder.layers + heads, "nextn_predict_layers": heads}
    behind = _head_parts(decoder, _full(decoder) | forward(decoder, "mtp.layers.0" in joint)) if heads else {}
    name = "qwen35moe" if experts else "qwen35"
    return map_decoder(checkpoint, decoder, name, metadata, layers, behind=behind, change_norm=PlusOne)


@dataclass(frozen=True)
class _Nets:
    """Sizes of the gated delta nets."""

    kernel: int
    key_dim: int
    value_dim: int
    key_heads: int
    value_heads: int

    @classmethod
    def read(cls, fields: Fields) -> _Nets:
        kernel, *rest = (
            fields.integer(f"linear_{name}")
            for name in ("conv_kernel_dim", "key_head_dim", "value_head_dim", "num_key_heads", "num_value_heads")
        )
        found = cls(kernel, *rest)
        if found.value_heads % found.key_heads or found.key_dim != found.value_dim:
            raise ConvertError(
                f"{fields.where} has {found.key_heads} linear key heads of {found.key_dim} values and "
                f"{found.value_heads} value heads of {found.value_dim}: llama.cpp's {_NAME} needs heads of one size, "
                "and value heads a multiple of key heads."
            )
        return found

    @property
    def keys(self) -> int:
        return self.key_heads * self.key_dim

    @property
    def values(self) -> int:
        return self.value_heads * self.value_dim

    def metadata(self) -> dict[str, MetadataValue]:
        return {
            "ssm.conv_kernel": self.kernel,
            "ssm.state_size": self.key_dim,
            "ssm.group_count": self.key_heads,
            "ssm.time_step_rank": self.value_heads,
            "ssm.inner_size": self.values,
        }

    def in_order(self, width: int, first: int = 0) -> Callable[[TensorSource], TensorSource]:
        """Change that reorders rows of ``width`` for each head of values, behind ``first`` rows that stay."""
        order = heads_by_group(self.key_heads, self.value_heads, width, first)
        return lambda source: RowsInOrder(source, order)


def _heads(checkpoint: Checkpoint, fields: Fields) -> int:
    """Prediction heads in the checkpoint: one, or none. A configuration may name some that were left out."""
    named = fields.integer("mtp_num_hidden_layers", 0, low=0)
    if not any(name.removeprefix("model.") == "mtp.fc.weight" for name in checkpoint.tensors):
        return 0
    if named > 1:
        raise ConvertError(
            f'"mtp_num_hidden_layers" is {named}, but llama.cpp\'s {_NAME} computes one prediction head.'
        )
    return 1


def _kinds(decoder: Decoder) -> list[str]:
    if "layer_types" not in decoder.fields:
        period = decoder.fields.integer("full_attention_interval")
        return [_LINEAR if (i + 1) % period else _FULL for i in range(decoder.layers)]
    kinds = decoder.fields.texts("layer_types")
    if len(kinds) != decoder.layers or not set(kinds) <= {_LINEAR, _FULL}:
        raise decoder.fields.fail("layer_types", f"a list of {decoder.layers} kinds: {_LINEAR} or {_FULL}")
    return kinds


def _rope(decoder: Decoder) -> dict[str, MetadataValue]:
    rope = read_rope(decoder.fields, _THETA)
    share = rope.number("partial_rotary_factor", decoder.fields.number("partial_rotary_factor", _ROTARY))
    whole = Fields({**rope.values, "partial_rotary_factor": 1.0}, rope.where)
    sections = rope.values.get("mrope_section", _SECTIONS)
    rotated = int(decoder.head_dim * share)
    if not isinstance(sections, list) or len(sections) != 3 or 2 * sum(map(int, sections)) != rotated:
        raise rope.fail("mrope_section", f"three numbers that add up to {rotated // 2}")
    return {
        **rope_metadata(whole, ("yarn",), _NAME),
        "rope.dimension_count": rotated,
        "rope.dimension_sections": [*map(int, sections), 0],
    }


def _full(decoder: Decoder) -> dict[str, Part]:
    """Attention whose queries have a gate beside them."""
    layer, head = layer_parts(decoder), (decoder.head_dim,)
    inner = decoder.heads * decoder.head_dim
    return {
        **_norms(layer),
        "self_attn.q_proj.weight": Part("attn_q.weight", (2 * inner, decoder.hidden_size)),
        **{f"self_attn.{name}_proj.weight": layer[f"self_attn.{name}_proj.weight"] for name in "kvo"},
        "self_attn.q_norm.weight": Part("attn_q_norm.weight", head, PlusOne),
        "self_attn.k_norm.weight": Part("attn_k_norm.weight", head, PlusOne),
    }


def _norms(layer: LayerParts) -> dict[str, Part]:
    """The norms of every layer."""
    after = layer["post_attention_layernorm.weight"]
    return {
        "input_layernorm.weight": replace(layer["input_layernorm.weight"], change=PlusOne),
        "post_attention_layernorm.weight": Part("post_attention_norm.weight", after.shape, PlusOne),
    }


def _linear(decoder: Decoder, nets: _Nets) -> dict[str, Part]:
    """A gated delta net."""
    width, both = decoder.hidden_size, 2 * nets.keys + nets.values
    order, one = nets.in_order(nets.value_dim), nets.in_order(1)
    behind_keys = nets.in_order(nets.value_dim, 2 * nets.keys)
    columns = heads_by_group(nets.key_heads, nets.value_heads, nets.value_dim)

    def convolution(source: TensorSource) -> TensorSource:
        return behind_keys(Computed(source, lambda values: values[:, 0, :], (both, nets.kernel)))

    def decay(source: TensorSource) -> TensorSource:
        return one(Computed(source, lambda values: -np.exp(values), source.shape))

    return {
        **_norms(layer_parts(decoder)),
        "linear_attn.in_proj_qkv.weight": Part("attn_qkv.weight", (both, width), behind_keys),
        "linear_attn.in_proj_z.weight": Part("attn_gate.weight", (nets.values, width), order),
        "linear_attn.in_proj_b.weight": Part("ssm_beta.weight", (nets.value_heads, width), one),
        "linear_attn.in_proj_a.weight": Part("ssm_alpha.weight", (nets.value_heads, width), one),
        "linear_attn.conv1d.weight": Part("ssm_conv1d.weight", (both, 1, nets.kernel), convolution),
        "linear_attn.dt_bias": Part("ssm_dt.bias", (nets.value_heads,), one),
        "linear_attn.A_log": Part("ssm_a", (nets.value_heads,), decay),
        "linear_attn.norm.weight": Part("ssm_norm.weight", (nets.value_dim,)),
        "linear_attn.out_proj.weight": Part(
            "ssm_out.weight", (width, nets.values), lambda source: Columns(source, columns)
        ),
    }


def _head_parts(decoder: Decoder, full: LayerParts) -> dict[str, Part]:
    """A prediction head behind the layers, by the names in the checkpoint: a layer of attention and its inputs."""
    width, start = decoder.hidden_size, f"blk.{decoder.layers}."
    parts = {f"mtp.layers.0.{name}": replace(part, name=start + part.name) for name, part in full.items()}
    norms = {name: Part(start + own, (width,), PlusOne) for name, own in _HEAD.items()}
    return {**parts, "mtp.fc.weight": Part(f"{start}nextn.eh_proj.weight", (width, 2 * width)), **norms}
