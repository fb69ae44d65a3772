"""Gemma 3, text models of all sizes → GGUF architecture ``gemma3``.

Reference: llama.cpp, ``conversion/gemma.py`` (Gemma3Model) and ``src/models/gemma3.cpp``. Norms multiply by 1 + weight
in Gemma 3 and by the weight in llama.cpp, so 1 is added to the weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gguf_convert.arch import MetadataValue, ModelMap
from gguf_convert.arch.decoder import (
    Decoder,
    Part,
    head_lengths,
    layer_parts,
    map_decoder,
    positive,
    read_decoder,
    refuse,
    require,
    sizes,
)
from gguf_convert.arch.rope import rope_metadata
from gguf_convert.checkpoint.folder import Checkpoint
from gguf_convert.checkpoint.json_fields import Fields
from gguf_convert.tensors import Floats, TensorSource
from localspec.errors import ConvertError

_SLIDING, _FULL = "sliding_attention", "full_attention"
#: Default period of layer types: five sliding layers, then a full one.
_PATTERN = 6
#: Number of layers of the 27B model, by which llama.cpp selects another attention scale.
_LAYERS_27B = 62
_NAME = "Gemma 3"
#: Defaults of transformers' Gemma3TextConfig, which the checkpoints from 4B on rely on.
_DEFAULTS = {
    "vocab_size": 262_208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-6,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "tie_word_embeddings": True,
}
#: Default bases of rope in full and in sliding layers.
_THETA_FULL, _THETA_SLIDING = 1e6, 1e4


def map_model(checkpoint: Checkpoint) -> ModelMap:
    """Map a ``Gemma3ForCausalLM`` checkpoint, or the text part of a ``Gemma3ForConditionalGeneration``."""
    decoder = read_decoder(checkpoint.config, _DEFAULTS)
    fields = decoder.fields
    require(fields, "hidden_activation", "gelu_pytorch_tanh", _NAME)
    refuse(fields, "attention_bias", _NAME)
    if "attn_logit_softcapping" in fields:
        raise ConvertError(f'"attn_logit_softcapping" is set, but llama.cpp\'s {_NAME} does not compute it.')
    _check_scale(decoder)
    metadata = {**sizes(decoder), **head_lengths(decoder), **_window(decoder), **_rope(fields)}
    softcap = fields.number("final_logit_softcapping", 0.0)
    if softcap and "text_config" not in checkpoint.config:  # transformers caps only in the text-only class
        metadata["final_logit_softcapping"] = softcap
    return map_decoder(checkpoint, decoder, "gemma3", metadata, _layer(decoder), change_norm=PlusOne)


def _layer(decoder: Decoder) -> dict[str, Part]:
    width, head = (decoder.hidden_size,), (decoder.head_dim,)
    return {
        **{
            name: replace(part, change=PlusOne if name == "input_layernorm.weight" else None)
            for name, part in layer_parts(decoder).items()
        },
        "self_attn.q_norm.weight": Part("attn_q_norm.weight", head, PlusOne),
        "self_attn.k_norm.weight": Part("attn_k_norm.weight", head, PlusOne),
        "post_attention_layernorm.weight": Part("post_attention_norm.weight", width, PlusOne),
        "pre_feedforward_layernorm.weight": Part("ffn_norm.weight", width, PlusOne),
        "post_feedforward_layernorm.weight": Part("post_ffw_norm.weight", width, PlusOne),
    }


def _check_scale(decoder: Decoder) -> None:
    """Raise ConvertError unless the scale of attention is llama.cpp's: 1/√head_dim, in the 27B 1/√(width / heads)."""
    computed = decoder.hidden_size // decoder.heads if decoder.layers == _LAYERS_27B else decoder.head_dim
    if (scalar := decoder.fields.number("query_pre_attn_scalar")) != computed:
        raise ConvertError(
            f'"query_pre_attn_scalar" is {scalar:g}, but llama.cpp\'s {_NAME} computes with {computed} at these sizes.'
        )


def _window(decoder: Decoder) -> dict[str, MetadataValue]:
    """Return the keys of the sliding window; the pattern of layers only if it is not llama.cpp's default."""
    kinds = _kinds(decoder)
    if _SLIDING not in kinds:
        return {}
    keys: dict[str, MetadataValue] = {"attention.sliding_window": decoder.fields.integer("sliding_window")}
    if kinds != _periodic(decoder.layers, _PATTERN):
        keys["attention.sliding_window_pattern"] = [kind == _SLIDING for kind in kinds]
    return keys


def _kinds(decoder: Decoder) -> list[str]:
    if "layer_types" not in decoder.fields:
        return _periodic(decoder.layers, decoder.fields.integer("sliding_window_pattern", _PATTERN))
    kinds = decoder.fields.texts("layer_types")
    if len(kinds) != decoder.layers or not set(kinds) <= {_SLIDING, _FULL}:
        raise decoder.fields.fail("layer_types", f"{decoder.layers} times {_SLIDING} or {_FULL}")
    return kinds


def _periodic(layers: int, period: int) -> list[str]:
    return [_SLIDING if index % period else _FULL for index in range(1, layers + 1)]


def _rope(text: Fields) -> dict[str, MetadataValue]:
    """Return the rope keys. Full layers may have a scaling; sliding layers have another base and no scaling.

    Old spelling: ``rope_theta``, ``rope_local_base_freq`` and ``rope_scaling`` (of the full layers); new:
    ``rope_parameters`` with an object for each kind of layer.
    """
    both = text.object("rope_parameters", required=False)
    if both.values and not {_SLIDING, _FULL} & both.values.keys():
        raise text.fail("rope_parameters", f"an object with {_FULL} and {_SLIDING}")
    full = _one_rope(both, _FULL, text.number("rope_theta", _THETA_FULL), text.object("rope_scaling", required=False))
    sliding = _one_rope(both, _SLIDING, text.number("rope_local_base_freq", _THETA_SLIDING))
    rope_metadata(sliding, (), f"{_NAME} in sliding layers")
    return {**rope_metadata(full, ("linear",), _NAME), "rope.freq_base_swa": positive(sliding, "rope_theta")}


def _one_rope(both: Fields, kind: str, theta: float, scaling: Fields | None = None) -> Fields:
    found = both.object(kind, required=False)
    values = {**found.values, **(scaling.values if scaling else {})}
    values = {name: value for name, value in values.items() if value is not None}
    values.setdefault("rope_theta", theta)
    values.setdefault("rope_type", values.get("type", "default"))
    return Fields(values, found.where)


@dataclass(frozen=True)
class PlusOne:
    """The values of another source, each increased by 1."""

    source: TensorSource

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    def rows(self, start: int, stop: int) -> Floats:
        return self.source.rows(start, stop) + 1
