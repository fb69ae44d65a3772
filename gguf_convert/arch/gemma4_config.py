"""The configuration of a Gemma 4 text model by layer, restricted to what llama.cpp supports.

Both spellings are read: ``global_head_dim`` with ``num_global_key_value_heads`` (transformers 5.12), and
``per_layer_config``, which maps a layer number such as ``"05"`` to the values that differ there (from 5.15).
Absent values have the defaults of transformers' ``Gemma4TextConfig``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gguf_convert.arch.decoder import MAX_HEAD, MAX_LAYERS
from gguf_convert.checkpoint.json_fields import Fields, shorten
from localspec.errors import ConvertError

_SLIDING, _FULL = "sliding_attention", "full_attention"
#: Period of layer types without "layer_types": five sliding layers, then a full one. The last layer is full.
_PATTERN = 6
#: Rope settings without "rope_parameters".
_ROPE = {
    _FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6},
    _SLIDING: {"rope_type": "default", "rope_theta": 1e4},
}
#: Most experts (llama.cpp, LLAMA_MAX_EXPERTS).
_MAX_EXPERTS = 1024
#: Default of "global_head_dim".
_GLOBAL_HEAD = 512


@dataclass(frozen=True)
class Gemma4Layer:
    """Sizes of a decoder layer. ``has_kv`` is False for a layer that reads the K/V of an earlier one."""

    sliding: bool
    has_kv: bool
    k_is_v: bool
    head_dim: int
    kv_heads: int
    feed_forward: int


@dataclass(frozen=True)
class Experts:
    """Experts beside the dense MLP of every layer: ``used`` of ``count`` for a token, each ``feed_forward`` wide."""

    count: int
    used: int
    feed_forward: int


@dataclass(frozen=True)
class Gemma4Config:
    """Sizes and constants of the text model, named as in transformers' ``Gemma4TextConfig``."""

    fields: Fields
    layers: tuple[Gemma4Layer, ...]
    experts: Experts | None
    hidden_size: int
    vocab_size: int
    heads: int
    head_dim_full: int
    head_dim_sliding: int
    per_layer_input: int
    rotated_full: int
    rope_base_full: float
    rope_base_sliding: float
    rope_factor_full: float
    softcap: float
    tied: bool

    @property
    def shared_kv_layers(self) -> int:
        return sum(not layer.has_kv for layer in self.layers)


def read_gemma4_config(config: Fields, *, all_shared: bool = False) -> Gemma4Config:
    """Resolve ``config.json`` (its ``text_config`` where there is one).

    ``all_shared``: without ``num_kv_shared_layers`` all layers share their K/V, as in an assistant.

    Raises ConvertError for values out of range and for features that llama.cpp's Gemma 4 does not support.
    """
    text = config.object("text_config") if "text_config" in config else config
    _refuse_unsupported(text)
    layers = _read_layers(text, all_shared)
    full = _one_head_dim(layers, sliding=False)
    sliding = _one_head_dim(layers, sliding=True)
    rope = text.object("rope_parameters") if "rope_parameters" in text else Fields(_ROPE, text.where)
    rope_full, rope_sliding = rope.object(_FULL), rope.object(_SLIDING)
    proportion = _proportion(rope_full, "proportional")
    if _proportion(rope_sliding, "default") != 1.0:  # transformers ignores it, llama.cpp would not
        raise rope_sliding.fail("partial_rotary_factor", "1.0 in sliding layers")
    return Gemma4Config(
        fields=text,
        layers=layers,
        experts=_read_experts(text),
        hidden_size=text.integer("hidden_size"),
        vocab_size=text.integer("vocab_size"),
        heads=text.integer("num_attention_heads"),
        head_dim_full=full,
        head_dim_sliding=sliding,
        per_layer_input=text.integer("hidden_size_per_layer_input", 0, low=0),
        rotated_full=2 * int(proportion * full // 2),
        rope_base_full=rope_full.number("rope_theta"),
        rope_base_sliding=rope_sliding.number("rope_theta"),
        rope_factor_full=rope_full.number("factor", 1.0),
        softcap=text.number("final_logit_softcapping", 0.0),
        tied=config.boolean("tie_word_embeddings", text.boolean("tie_word_embeddings", True)),
    )


def _refuse_unsupported(text: Fields) -> None:
    if text.boolean("attention_bias", False):
        raise ConvertError('"attention_bias" is true, but llama.cpp\'s Gemma 4 has no attention biases.')
    if text.text("use_bidirectional_attention", "") == "all":
        raise ConvertError("This Gemma 4 attends in both directions (an encoder): it cannot generate text.")
    if (activation := text.text("hidden_activation", "gelu_pytorch_tanh")) != "gelu_pytorch_tanh":
        raise ConvertError(
            f'"hidden_activation" is {shorten(activation)}, but llama.cpp\'s Gemma 4 computes gelu_pytorch_tanh.'
        )


def _read_experts(text: Fields) -> Experts | None:
    if not text.boolean("enable_moe_block", False):
        return None
    count = text.integer("num_experts", high=_MAX_EXPERTS)
    return Experts(
        count=count,
        used=text.integer("top_k_experts", high=count),
        feed_forward=text.integer("moe_intermediate_size"),
    )


def _read_layers(text: Fields, all_shared: bool) -> tuple[Gemma4Layer, ...]:
    count = text.integer("num_hidden_layers", high=MAX_LAYERS)
    kinds = text.texts("layer_types") if "layer_types" in text else _default_kinds(count)
    if len(kinds) != count or set(kinds) != {_SLIDING, _FULL}:
        raise ConvertError(
            f'"layer_types" has {len(kinds)} entries of {sorted(set(kinds))}; '
            f"expected {count} with both {_SLIDING} and {_FULL}."
        )
    shared = text.integer("num_kv_shared_layers", 0, low=0, high=count)
    if all_shared and not shared:
        shared = count
    wide = text.boolean("use_double_wide_mlp", False)
    own = count - shared
    changes = _changes(text)
    return tuple(
        _read_layer(
            text, changes.get(index), index, sliding=kind == _SLIDING, has_kv=index < own, wide=wide and index >= own
        )
        for index, kind in enumerate(kinds)
    )


def _default_kinds(count: int) -> list[str]:
    return [_SLIDING if index % _PATTERN and index < count else _FULL for index in range(1, count + 1)]


def _changes(text: Fields) -> dict[int, Fields]:
    changes = text.object("per_layer_config", required=False)
    if odd := next((key for key in changes.values if not re.fullmatch(r"[0-9]{1,4}", key)), None):
        raise ConvertError(f"{changes.where}: {shorten(odd)} is not the number of a layer.")
    return {int(key): changes.object(key) for key in changes.values}


def _read_layer(
    text: Fields, own: Fields | None, index: int, *, sliding: bool, has_kv: bool, wide: bool
) -> Gemma4Layer:
    own = own or Fields({}, text.where)
    head_dim, kv_heads = text.integer("head_dim", high=MAX_HEAD), text.integer("num_key_value_heads")
    k_is_v = text.boolean("attention_k_eq_v", False) and not sliding
    if not sliding:
        usual = head_dim if "per_layer_config" in text else _GLOBAL_HEAD
        head_dim = text.integer("global_head_dim", usual, high=MAX_HEAD)
        if k_is_v:  # transformers reads the global count of K/V heads only then
            kv_heads = text.integer("num_global_key_value_heads", kv_heads)
    feed_forward = text.integer("intermediate_size") * (2 if wide else 1)
    layer = Gemma4Layer(
        sliding=sliding,
        has_kv=has_kv,
        k_is_v=k_is_v,
        head_dim=own.integer("head_dim", head_dim, high=MAX_HEAD),
        kv_heads=own.integer("num_key_value_heads", kv_heads),
        feed_forward=own.integer("intermediate_size", feed_forward),
    )
    if layer.head_dim % 2 or text.integer("num_attention_heads") % layer.kv_heads:
        raise ConvertError(
            f"Layer {index} has {text.integer('num_attention_heads')} heads of {layer.head_dim} values and "
            f"{layer.kv_heads} K/V heads: head sizes must be even, and heads a multiple of K/V heads."
        )
    return layer


def _one_head_dim(layers: tuple[Gemma4Layer, ...], *, sliding: bool) -> int:
    sizes = {layer.head_dim for layer in layers if layer.sliding == sliding}
    if len(sizes) != 1:
        kind = _SLIDING if sliding else _FULL
        raise ConvertError(
            f"Layers of {kind} differ in head size ({sorted(sizes)}); GGUF has one size for all of them."
        )
    return sizes.pop()


def _proportion(rope: Fields, expected: str) -> float:
    if (kind := rope.text("rope_type", expected)) != expected:
        raise ConvertError(f'{rope.where}: "rope_type" {shorten(kind)} is not supported, only {expected}.')
    proportion = rope.number("partial_rotary_factor", 1.0)
    if not 0.0 < proportion <= 1.0:
        raise rope.fail("partial_rotary_factor", "a number above 0 and at most 1")
    return proportion
