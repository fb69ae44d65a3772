"""Architectures that can be converted.

To add one, write a module with a function ``map_model(checkpoint) -> ModelMap`` and add its Hugging Face class to
``_MODULES``. Modules are imported on first use.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from gguf_convert.checkpoint.folder import Checkpoint
from gguf_convert.checkpoint.json_fields import shorten
from gguf_convert.tensors import ModelTensor
from localspec.errors import ConvertError

MetadataValue = bool | int | float | str | list[bool] | list[int] | list[float] | list[str]

#: Hugging Face class → module.
_MODULES = {
    "Gemma4ForCausalLM": "gguf_convert.arch.gemma4",
    "Gemma4ForConditionalGeneration": "gguf_convert.arch.gemma4",
    "Gemma4UnifiedForConditionalGeneration": "gguf_convert.arch.gemma4",
    "Gemma4AssistantForCausalLM": "gguf_convert.arch.gemma4_assistant",
    "Gemma4UnifiedAssistantForCausalLM": "gguf_convert.arch.gemma4_assistant",
    "Gemma3ForCausalLM": "gguf_convert.arch.gemma3",
    "Gemma3ForConditionalGeneration": "gguf_convert.arch.gemma3",
    "LlamaForCausalLM": "gguf_convert.arch.llama",
    "Qwen2ForCausalLM": "gguf_convert.arch.qwen2",
    "Qwen3ForCausalLM": "gguf_convert.arch.qwen3",
    "Qwen3_5ForCausalLM": "gguf_convert.arch.qwen35",
    "Qwen3_5ForConditionalGeneration": "gguf_convert.arch.qwen35",
    "Qwen3_5MoeForCausalLM": "gguf_convert.arch.qwen35",
    "Qwen3_5MoeForConditionalGeneration": "gguf_convert.arch.qwen35",
    "SmolLM3ForCausalLM": "gguf_convert.arch.smollm3",
}


@dataclass(frozen=True)
class ModelMap:
    """A checkpoint mapped to GGUF: architecture, metadata, tensors.

    Keys of ``metadata`` come without the ``architecture.`` prefix. ``vocab_rows`` is the number of rows of the
    embedding, and of tokens in the vocabulary. ``notes`` are sentences for the user, for example about tensors that
    were left out.
    """

    architecture: str
    metadata: Mapping[str, MetadataValue]
    tensors: tuple[ModelTensor, ...]
    vocab_rows: int
    notes: tuple[str, ...] = ()


def supported() -> list[str]:
    """Return the Hugging Face class names that ``map_checkpoint`` accepts."""
    return sorted(_MODULES)


def map_checkpoint(checkpoint: Checkpoint) -> ModelMap:
    """Map a checkpoint with the module of its architecture.

    Raises ConvertError for an unknown architecture and for a quantised checkpoint.
    """
    names = checkpoint.config.values.get("architectures")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise checkpoint.config.fail("architectures", "a list with the name of the model class")
    module = next((_MODULES[name] for name in names if name in _MODULES), None)
    if module is None:
        raise ConvertError(
            f"Architecture {shorten(names[0])} is not supported; supported are {', '.join(supported())} "
            "(llama.cpp's own convert_hf_to_gguf.py supports more)."
        )
    if "quantization_config" in checkpoint.config:
        method = checkpoint.config.object("quantization_config").values.get("quant_method")
        raise ConvertError(f"The checkpoint is quantised ({shorten(method)}): use the unquantised one.")
    map_model = cast("Callable[[Checkpoint], ModelMap]", importlib.import_module(module).map_model)
    return map_model(checkpoint)
