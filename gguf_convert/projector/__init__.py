"""Projectors: a checkpoint's encoders of pictures and sound, mapped to a file of llama.cpp's architecture ``clip``.

Reference: llama.cpp, ``conversion/gemma.py`` and ``tools/mtmd/clip.cpp``. Each Hugging Face class has a module with a
function ``map_towers(checkpoint) -> Projector``, which is imported on first use.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import cast

from gguf_convert.checkpoint.folder import Checkpoint
from gguf_convert.checkpoint.json_fields import shorten
from gguf_convert.projector.towers import Projector
from localspec.errors import ConvertError

#: Hugging Face class → module.
_MODULES = {
    "Gemma4ForConditionalGeneration": "gguf_convert.projector.gemma4",
    "Gemma4UnifiedForConditionalGeneration": "gguf_convert.projector.gemma4_unified",
    "Gemma3ForConditionalGeneration": "gguf_convert.projector.gemma3",
}


def has_projector(checkpoint: Checkpoint) -> bool:
    """Return True if the checkpoint has a part for pictures that can be converted."""
    return _module(checkpoint) is not None and "vision_config" in checkpoint.config


def map_projector(checkpoint: Checkpoint) -> Projector:
    """Map the encoders of a checkpoint. Raises ConvertError if it has none, or none that llama.cpp computes."""
    module = _module(checkpoint)
    if module is None or "vision_config" not in checkpoint.config:
        names = checkpoint.config.values.get("architectures")
        raise ConvertError(
            f"The checkpoint has no part for pictures or sound that can be converted (architecture {shorten(names)}); "
            f"supported are {', '.join(sorted(_MODULES))}."
        )
    map_towers = cast("Callable[[Checkpoint], Projector]", importlib.import_module(module).map_towers)
    return map_towers(checkpoint)


def _module(checkpoint: Checkpoint) -> str | None:
    names = checkpoint.config.values.get("architectures")
    known = [_MODULES.get(name) for name in names if isinstance(name, str)] if isinstance(names, list) else []
    return next((module for module in known if module), None)
