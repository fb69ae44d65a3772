"""Qwen2 and Qwen2.5 → GGUF architecture ``qwen2``: biases on Q, K and V.

Reference: llama.cpp, ``conversion/qwen.py`` (Qwen2Model) and ``src/models/qwen2.cpp``.
"""

from __future__ import annotations

from gguf_convert.arch import ModelMap
from gguf_convert.arch.decoder import (
    biases,
    head_lengths,
    layer_parts,
    map_decoder,
    read_decoder,
    refuse_window,
    require,
    sizes,
)
from gguf_convert.arch.rope import read_rope, rope_metadata
from gguf_convert.checkpoint.folder import Checkpoint
from localspec.errors import ConvertError

_DEFAULTS = {"rms_norm_eps": 1e-6, "tie_word_embeddings": False, "max_window_layers": 28}
_THETA = 1e4
_NAME = "Qwen2"


def map_model(checkpoint: Checkpoint) -> ModelMap:
    """Map a ``Qwen2ForCausalLM`` checkpoint."""
    decoder = read_decoder(checkpoint.config, _DEFAULTS)
    fields = decoder.fields
    require(fields, "hidden_act", "silu", _NAME)
    refuse_window(decoder, _NAME)
    if decoder.heads * decoder.head_dim != decoder.hidden_size:
        raise ConvertError(
            f"{decoder.heads} heads of {decoder.head_dim} values do not add up to the width of {decoder.hidden_size}, "
            f"as llama.cpp's {_NAME} requires."
        )
    layer = layer_parts(decoder)
    layer |= biases(layer, "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    metadata = {
        **sizes(decoder),
        **(head_lengths(decoder) if "head_dim" in fields else {}),
        **rope_metadata(read_rope(fields, _THETA), ("linear", "yarn"), _NAME),
    }
    return map_decoder(checkpoint, decoder, "qwen2", metadata, layer)
