"""SmolLM3 → GGUF architecture ``smollm3``: Llama without positions in every fourth layer.

Reference: llama.cpp, ``conversion/llama.py`` (SmolLM3Model) and ``src/models/smollm3.cpp``, which fixes the interval.
"""

from __future__ import annotations

from gguf_convert.arch import ModelMap
from gguf_convert.arch.decoder import (
    Decoder,
    head_lengths,
    map_decoder,
    read_decoder,
    refuse,
    refuse_window,
    require,
    sizes,
)
from gguf_convert.arch.llama import llama_keys, rotated_parts
from gguf_convert.arch.rope import read_rope, rope_metadata
from gguf_convert.checkpoint.folder import Checkpoint
from localspec.errors import ConvertError

_DEFAULTS = {"rms_norm_eps": 1e-6, "tie_word_embeddings": True}
_THETA = 2e6
#: Every layer with this interval has no positions.
_INTERVAL = 4
_NAME = "SmolLM3"


def map_model(checkpoint: Checkpoint) -> ModelMap:
    """Map a ``SmolLM3ForCausalLM`` checkpoint."""
    decoder = read_decoder(checkpoint.config, _DEFAULTS)
    fields = decoder.fields
    require(fields, "hidden_act", "silu", _NAME)
    refuse(fields, "attention_bias", _NAME)
    refuse(fields, "mlp_bias", _NAME)
    refuse_window(decoder, _NAME)
    _check_positions(decoder)
    metadata = {
        **sizes(decoder),
        **(head_lengths(decoder) if "head_dim" in fields else {}),
        **llama_keys(decoder),
        **rope_metadata(read_rope(fields, _THETA), ("linear", "yarn"), _NAME),
    }
    return map_decoder(checkpoint, decoder, "smollm3", metadata, rotated_parts(decoder))


def _check_positions(decoder: Decoder) -> None:
    """Raise ConvertError for another interval; ``no_rope_layers`` has a 1 for each layer *with* rope."""
    computed = [int((index + 1) % _INTERVAL != 0) for index in range(decoder.layers)]
    found = decoder.fields.values.get("no_rope_layers")
    if found is None:
        interval = decoder.fields.integer("no_rope_layer_interval", _INTERVAL)
        found = [int((index + 1) % interval != 0) for index in range(decoder.layers)]
    if not isinstance(found, list) or found[: decoder.layers] != computed:
        raise ConvertError(
            '"no_rope_layers" is not "every fourth layer without positions", the only pattern of llama.cpp\'s '
            f"{_NAME}: this model cannot be converted."
        )
