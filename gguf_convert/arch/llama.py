"""Llama 2 and 3, SmolLM2 and other ``LlamaForCausalLM`` models → GGUF architecture ``llama``.

Reference: llama.cpp, ``conversion/llama.py`` (LlamaModel) and ``src/models/llama.cpp``. llama.cpp rotates adjacent
values of a head, transformers values that are half a head apart: rows of Q and K are reordered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gguf_convert.arch import MetadataValue, ModelMap
from gguf_convert.arch.decoder import (
    Decoder,
    Part,
    biases,
    head_lengths,
    layer_parts,
    map_decoder,
    read_decoder,
    require,
    sizes,
)
from gguf_convert.arch.rope import llama3_factors, read_rope, rope_metadata
from gguf_convert.checkpoint.folder import Checkpoint
from gguf_convert.tensors import Floats, TensorSource

_DEFAULTS = {"rms_norm_eps": 1e-6, "tie_word_embeddings": False}
_THETA = 1e4
_ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
_MLP = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


def map_model(checkpoint: Checkpoint) -> ModelMap:
    """Map a ``LlamaForCausalLM`` checkpoint."""
    decoder = read_decoder(checkpoint.config, _DEFAULTS)
    fields = decoder.fields
    require(fields, "hidden_act", "silu", "Llama")
    rope = read_rope(fields, _THETA)
    layer = rotated_parts(decoder)
    if fields.boolean("attention_bias", False):
        layer |= biases(layer, *_ATTENTION)
    if fields.boolean("mlp_bias", False):
        layer |= biases(layer, *_MLP)
    metadata = {
        **sizes(decoder),
        **head_lengths(decoder),
        **llama_keys(decoder),
        **rope_metadata(rope, ("linear", "llama3", "yarn"), "Llama"),
    }
    extra = llama3_factors(rope, decoder.head_dim)
    return map_decoder(checkpoint, decoder, "llama", metadata, layer, extra=extra)


def llama_keys(decoder: Decoder) -> Mapping[str, MetadataValue]:
    """Return the additional keys that llama.cpp's converter writes for Llama and classes derived from it."""
    return {"vocab_size": decoder.vocab_size, "rope.dimension_count": decoder.head_dim}


def rotated_parts(decoder: Decoder) -> dict[str, Part]:
    """Return the parts of a layer, with rows of Q and K in llama.cpp's order."""
    layer = layer_parts(decoder)

    def reorder(source: TensorSource) -> TensorSource:
        return Interleaved(source, decoder.head_dim)

    for name in ("self_attn.q_proj.weight", "self_attn.k_proj.weight"):
        layer[name] = replace(layer[name], change=reorder)
    return layer


@dataclass(frozen=True)
class Interleaved:
    """Rows of each head reordered: row ``2j`` comes from ``j``, row ``2j + 1`` from ``head_dim / 2 + j``."""

    source: TensorSource
    head_dim: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    def rows(self, start: int, stop: int) -> Floats:
        first = start - start % self.head_dim
        last = min(stop + -stop % self.head_dim, self.shape[0])
        heads = self.source.rows(first, last).reshape(-1, 2, self.head_dim // 2, *self.shape[1:])
        reordered: Floats = heads.swapaxes(1, 2).reshape(-1, *self.shape[1:])
        return reordered[start - first : stop - first]
