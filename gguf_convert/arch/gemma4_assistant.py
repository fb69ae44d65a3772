"""Gemma 4 assistants (multi-token-prediction drafters) → GGUF architecture ``gemma4-assistant``.

An assistant has no K/V: all its layers read those of the target. Reference: llama.cpp,
``conversion/gemma.py`` (Gemma4AssistantModel) and ``src/models/gemma4-assistant.cpp``.
"""

from __future__ import annotations

from gguf_convert.arch import ModelMap
from gguf_convert.arch.gemma4 import Gemma4Tensors, text_metadata
from gguf_convert.arch.gemma4_config import Gemma4Config, read_gemma4_config
from gguf_convert.checkpoint.folder import Checkpoint
from gguf_convert.tensors import ModelTensor
from localspec.errors import ConvertError


def map_model(checkpoint: Checkpoint) -> ModelMap:
    """Map a ``Gemma4AssistantForCausalLM`` checkpoint.

    The centroid tensors of E2B/E4B assistants are left out: llama.cpp computes the whole vocabulary head.
    """
    config = read_gemma4_config(checkpoint.config, all_shared=True)
    backbone = checkpoint.config.integer("backbone_hidden_size")
    _check(config, backbone)
    text = Gemma4Tensors(checkpoint, config)
    for name in [name for name in text.left if name.startswith("masked_embedding.")]:
        text.leave_out(name, "of centroids, because llama.cpp computes the whole vocabulary head")
    tensors = [*text.embedding(), *text.layers(), *text.output()]
    projections = (
        ("nextn.pre_projection.weight", text.take("pre_projection.weight", config.hidden_size, 2 * backbone)),
        ("nextn.post_projection.weight", text.take("post_projection.weight", backbone, config.hidden_size)),
    )
    tensors.extend(ModelTensor(name, source) for name, source in projections)
    text.refuse_leftovers()
    metadata = text_metadata(config)
    metadata["embedding_length_out"] = backbone
    metadata["nextn_predict_layers"] = len(config.layers)
    return ModelMap("gemma4-assistant", metadata, tuple(tensors), config.vocab_size, text.notes())


def _check(config: Gemma4Config, backbone: int) -> None:
    if backbone == config.hidden_size:
        raise ConvertError(
            f'"backbone_hidden_size" equals the assistant\'s own "hidden_size" ({backbone}): '
            "llama.cpp needs them to differ."
        )
    if any(layer.has_kv for layer in config.layers):
        raise ConvertError('An assistant shares all K/V: "num_kv_shared_layers" must equal "num_hidden_layers".')
    if config.experts:
        raise ConvertError('"enable_moe_block" is true, but llama.cpp\'s assistant has no experts.')
    if config.per_layer_input:
        raise ConvertError('"hidden_size_per_layer_input" must be 0 in an assistant.')
    if config.softcap:
        raise ConvertError('"final_logit_softcapping" is set, but llama.cpp\'s assistant does not compute it.')
    if not config.tied:
        raise ConvertError(
            '"tie_word_embeddings" is false, but llama.cpp\'s assistant has no output matrix of its own.'
        )
