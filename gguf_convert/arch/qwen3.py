"""Qwen3, dense → GGUF architecture ``qwen3``: norms on Q and K, head size independent of the width.

Reference: llama.cpp, ``conversion/qwen.py`` (Qwen3Model) and ``src/models/qwen3.cpp``.
"""

from __future__ import annotations

from gguf_convert.arch import ModelMap
from gguf_convert.arch.decoder import (
    Part,
    head_lengths,
    layer_parts,
    map_decoder,
    read_decoder,
    refuse,
    refuse_window,
    require,
    sizes,
)
from gguf_convert.arch.rope import read_rope, rope_metadata
from gguf_convert.checkpoint.folder import Checkpoint

_DEFAULTS = {"rms_norm_eps": 1e-6, "tie_word_embeddings": False, "head_dim": 128, "max_window_layers": 28}
_THETA = 1e4
_NAME = "Qwen3"


def map_model(checkpoint: Checkpoint) -> ModelMap:
    """Map a ``Qwen3ForCausalLM`` checkpoint."""
    decoder = read_decoder(checkpoint.config, _DEFAULTS)
    fields = decoder.fields
    require(fields, "hidden_act", "silu", _NAME)
    refuse(fields, "attention_bias", _NAME)
    refuse_window(decoder, _NAME)
    layer = layer_parts(decoder)
    layer["self_attn.q_norm.weight"] = Part("attn_q_norm.weight", (decoder.head_dim,))
    layer["self_attn.k_norm.weight"] = Part("attn_k_norm.weight", (decoder.head_dim,))
    metadata = {
        **sizes(decoder),
        **head_lengths(decoder),
        **rope_metadata(read_rope(fields, _THETA), ("linear", "yarn"), _NAME),
    }
    return map_decoder(checkpoint, decoder, "qwen3", metadata, layer)
