"""localspec: speculative decoding of GGUF models on this machine. The output of plain decoding, sooner.

::

    import localspec

    with localspec.load("tiny") as llm:
        done = llm.generate("Once", max_tokens=64, temperature=0.8, seed=7)
        print(done.text, done.stats.acceptance)

Names are imported on first use, so importing the package is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from localspec._version import __version__

if TYPE_CHECKING:
    from localspec.engine import Engine, ModelInfo
    from localspec.errors import (
        BackendError,
        ConvertError,
        DraftMismatchError,
        HubError,
        InputError,
        LocalspecError,
        MissingFeatureError,
        ModelError,
        ModelFileError,
        ModelNotFoundError,
        PromptTooLongError,
        TemplateError,
        UsageError,
        WorkerError,
    )
    from localspec.generation.result import Chunk, Completion
    from localspec.generation.stats import Stats
    from localspec.loading import load
    from localspec.media.source import Audio, Image
    from localspec.params import ContextParams, DraftParams, SamplingParams, StopParams

_HOME = {
    "load": "loading",
    **dict.fromkeys(("ContextParams", "DraftParams", "SamplingParams", "StopParams"), "params"),
    **dict.fromkeys(("Engine", "ModelInfo"), "engine"),
    **dict.fromkeys(("Chunk", "Completion"), "generation.result"),
    "Stats": "generation.stats",
    **dict.fromkeys(("Audio", "Image"), "media.source"),
}

__all__ = [
    "Audio",
    "BackendError",
    "Chunk",
    "Completion",
    "ContextParams",
    "ConvertError",
    "DraftMismatchError",
    "DraftParams",
    "Engine",
    "HubError",
    "Image",
    "InputError",
    "LocalspecError",
    "MissingFeatureError",
    "ModelError",
    "ModelFileError",
    "ModelInfo",
    "ModelNotFoundError",
    "PromptTooLongError",
    "SamplingParams",
    "Stats",
    "StopParams",
    "TemplateError",
    "UsageError",
    "WorkerError",
    "__version__",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'localspec' has no attribute {name!r}")
    value = getattr(import_module(f"localspec.{_HOME.get(name, 'errors')}"), name)
    globals()[name] = value
    return value
