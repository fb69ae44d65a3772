"""Gemma 4 text models, dense or with experts → GGUF architecture ``gemma4``.

Reference: llama.cpp, ``conversion/gemma.py`` (Gemma4Model) and ``src/models/gemma4.cpp``. Every tensor of the text
model is written with the shape that the configuration implies, or refused. Notes name the tensors that are left out:
other modalities, and K/V projections that no layer reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np

from gguf_convert.arch import MetadataValue, ModelMap
from gguf_convert.arch.gemma4_config import Gemma4Config, Gemma4Layer, read_gemma4_config
from gguf_convert.arch.gemma4_experts import expert_tensors
from gguf_convert.arch.text_tensors import TextTensors
from gguf_convert.checkpoint.folder import Checkpoint
from gguf_convert.checkpoint.safetensors import CheckpointTensor
from gguf_convert.tensors import ArraySource, FirstRows, ModelTensor, TensorSource
from localspec.errors import ConvertError

#: Rope factor of dimensions that are not rotated: the angle becomes 0.
UNROTATED = 1e30

_LAYER_NAMES = {
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "self_attn.q_norm.weight": "attn_q_norm.weight",
    "self_attn.k_norm.weight": "attn_k_norm.weight",
    "post_attention_layernorm.weight": "post_attention_norm.weight",
    "pre_feedforward_layernorm.weight": "ffn_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
    "post_feedforward_layernorm.weight": "post_ffw_norm.weight",
    "layer_scalar": "layer_output_scale.weight",
    "per_layer_input_gate.weight": "inp_gate.weight",
    "per_layer_projection.weight": "proj.weight",
    "post_per_layer_input_norm.weight": "post_norm.weight",
}
_PER_LAYER_INPUT = (
    "per_layer_input_gate.weight",
    "per_layer_projection.weight",
    "post_per_layer_input_norm.weight",
)
_KV = ("self_attn.k_proj.weight", "self_attn.v_proj.weight", "self_attn.k_norm.weight")


def map_model(checkpoint: Checkpoint) -> ModelMap:
    """Map a ``Gemma4ForCausalLM`` checkpoint, or the text part of a ``Gemma4ForConditionalGeneration``."""
    config = read_gemma4_config(checkpoint.config)
    check_kv_sharing(config)
    text = Gemma4Tensors(checkpoint, config)
    tensors = [*text.embedding(), *text.per_layer_input(), *text.layers(), *text.output()]
    text.refuse_leftovers()
    metadata = text_metadata(config)
    if config.softcap:
        metadata["final_logit_softcapping"] = config.softcap
    if config.experts:
        metadata["expert_count"] = config.experts.count
        metadata["expert_used_count"] = config.experts.used
        metadata["expert_feed_forward_length"] = config.experts.feed_forward
    return ModelMap("gemma4", metadata, tuple(tensors), config.vocab_size, text.notes())


def text_metadata(config: Gemma4Config) -> dict[str, MetadataValue]:
    """Return the hyper-parameters that ``gemma4`` and ``gemma4-assistant`` share."""
    layers, fields = config.layers, config.fields
    return {
        "block_count": len(layers),
        "context_length": fields.integer("max_position_embeddings"),
        "embedding_length": config.hidden_size,
        "feed_forward_length": _one_or_all([layer.feed_forward for layer in layers]),
        "attention.head_count": config.heads,
        "attention.head_count_kv": _one_or_all([layer.kv_heads for layer in layers]),
        "attention.layer_norm_rms_epsilon": fields.number("rms_norm_eps"),
        "attention.key_length": config.head_dim_full,
        "attention.value_length": config.head_dim_full,
        "attention.key_length_swa": config.head_dim_sliding,
        "attention.value_length_swa": config.head_dim_sliding,
        "attention.sliding_window": fields.integer("sliding_window"),
        "attention.sliding_window_pattern": [layer.sliding for layer in layers],
        "attention.shared_kv_layers": config.shared_kv_layers,
        "embedding_length_per_layer_input": config.per_layer_input,
        "rope.freq_base": config.rope_base_full,
        "rope.freq_base_swa": config.rope_base_sliding,
        "rope.dimension_count": config.head_dim_full,
        "rope.dimension_count_swa": config.head_dim_sliding,
    }


def check_kv_sharing(config: Gemma4Config) -> None:
    """Raise ConvertError unless the last two layers with K/V, which llama.cpp shares, are sliding, then full."""
    own = [layer for layer in config.layers if layer.has_kv]
    if len(own) < 2:  # llama.cpp aborts below two
        raise ConvertError(f"Only {len(own)} layers have K/V of their own; llama.cpp needs two or more.")
    if config.shared_kv_layers and (not own[-2].sliding or own[-1].sliding):
        raise ConvertError(
            "The last two layers with K/V of their own must be sliding_attention, then full_attention: "
            "llama.cpp shares those two with the layers that follow."
        )


class Gemma4Tensors(TextTensors):
    """The tensors of a text model of this configuration."""

    modalities: ClassVar[Mapping[str, str]] = {
        **TextTensors.modalities,
        "embed_vision.": "vision",
        "embed_audio.": "audio",
    }

    def __init__(self, checkpoint: Checkpoint, config: Gemma4Config) -> None:
        super().__init__(checkpoint)
        self.config = config

    def embedding(self) -> Iterator[ModelTensor]:
        config = self.config
        yield ModelTensor("token_embd.weight", self.take("embed_tokens.weight", config.vocab_size, config.hidden_size))
        yield ModelTensor("rope_freqs.weight", rope_factors(config))

    def per_layer_input(self) -> Iterator[ModelTensor]:
        config = self.config
        if not config.per_layer_input:
            return
        width = config.per_layer_input * len(config.layers)
        rows = config.fields.integer("vocab_size_per_layer_input", config.vocab_size)
        if rows < config.vocab_size:
            raise ConvertError(
                f"The per-layer embedding has {rows} rows for {config.vocab_size} tokens; llama.cpp needs one for each."
            )
        table = self.take("embed_tokens_per_layer.weight", rows, width)
        yield ModelTensor("per_layer_token_embd.weight", _first_rows(table, config.vocab_size))
        yield ModelTensor(
            "per_layer_model_proj.weight",
            self.take("per_layer_model_projection.weight", width, config.hidden_size),
        )
        yield ModelTensor(
            "per_layer_proj_norm.weight",
            self.take("per_layer_projection_norm.weight", config.per_layer_input),
        )

    def layers(self) -> Iterator[ModelTensor]:
        config = self.config
        for index, layer in enumerate(config.layers):
            for suffix, shape in self._layer_shapes(layer).items():
                yield ModelTensor(f"blk.{index}.{_LAYER_NAMES[suffix]}", self.take(f"layers.{index}.{suffix}", *shape))
            if not layer.has_kv:
                for suffix in _KV:  # in older exports
                    self.leave_out(f"layers.{index}.{suffix}", "of K/V in layers that read an earlier layer's K/V")
            if config.experts:
                prefix, block = f"layers.{index}.", f"blk.{index}."
                yield from expert_tensors(self.take, self.left, prefix, block, config.hidden_size, config.experts)

    def _layer_shapes(self, layer: Gemma4Layer) -> dict[str, tuple[int, ...]]:
        config = self.config
        width, inner = config.hidden_size, config.heads * layer.head_dim
        kv = layer.kv_heads * layer.head_dim
        shapes: dict[str, tuple[int, ...]] = {
            "input_layernorm.weight": (width,),
            "self_attn.q_proj.weight": (inner, width),
            "self_attn.o_proj.weight": (width, inner),
            "self_attn.q_norm.weight": (layer.head_dim,),
            "post_attention_layernorm.weight": (width,),
            "pre_feedforward_layernorm.weight": (width,),
            "mlp.gate_proj.weight": (layer.feed_forward, width),
            "mlp.up_proj.weight": (layer.feed_forward, width),
            "mlp.down_proj.weight": (width, layer.feed_forward),
            "post_feedforward_layernorm.weight": (width,),
            "layer_scalar": (1,),
        }
        if layer.has_kv:
            shapes["self_attn.k_proj.weight"] = (kv, width)
            shapes["self_attn.k_norm.weight"] = (layer.head_dim,)
            if not layer.k_is_v:  # without it llama.cpp uses V = K, as the model does
                shapes["self_attn.v_proj.weight"] = (kv, width)
        if config.per_layer_input:
            sizes = ((config.per_layer_input, width), (width, config.per_layer_input), (width,))
            shapes.update(zip(_PER_LAYER_INPUT, sizes, strict=True))
        return shapes

    def output(self) -> Iterator[ModelTensor]:
        config = self.config
        yield ModelTensor("output_norm.weight", self.take("norm.weight", config.hidden_size))
        if config.tied:
            self.leave_out("lm_head.weight", "of the output head, which the configuration ties to the embedding")
        else:
            yield ModelTensor("output.weight", self.take("lm_head.weight", config.vocab_size, config.hidden_size))


def rope_factors(config: Gemma4Config) -> ArraySource:
    """Return factors that divide the rotation angles of full-attention layers, shape ``(head_dim_full / 2,)``.

    The "proportional" rope of transformers rotates only the first pairs
    (``modeling_rope_utils._compute_proportional_rope_parameters``).
    """
    factors = np.full(config.head_dim_full // 2, UNROTATED, dtype=np.float32)
    factors[: config.rotated_full // 2] = config.rope_factor_full
    return ArraySource(factors)


def _first_rows(tensor: CheckpointTensor, count: int) -> TensorSource:
    return tensor if tensor.shape[0] == count else FirstRows(tensor, count)


def _one_or_all(values: list[int]) -> int | list[int]:
    return values[0] if len(set(values)) == 1 else values
