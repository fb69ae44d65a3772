"""localspec: local speculative decoding for GGUF models. The same output as plain decoding, sooner.

::

    import localspec

    with localspec.load("tiny") as llm:
        done = llm.generate("Once", max_tokens=64, temperature=0.8, seed=7)
        print(done.text, done.stats.acceptance)

Names load on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from localspec._version import __version__

if TYPE_CHECKING:
    from localspec.assemble import load
    from localspec.config import ContextParams, DraftParams, SamplingParams, StopParams
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
    )
    from localspec.output import Chunk, Completion
    from localspec.stats import Stats

_HOME = {
    "load": "assemble",
    **dict.fromkeys(("ContextParams", "DraftParams", "SamplingParams", "StopParams"), "config"),
    **dict.fromkeys(("Engine", "ModelInfo"), "engine"),
    **dict.fromkeys(("Chunk", "Completion"), "output"),
    "Stats": "stats",
}

__all__ = [
    "BackendError",
    "Chunk",
    "Completion",
    "ContextParams",
    "ConvertError",
    "DraftMismatchError",
    "DraftParams",
    "Engine",
    "HubError",
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
    "__version__",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'localspec' has no attribute {name!r}")
    value = getattr(import_module(f"localspec.{_HOME.get(name, 'errors')}"), name)
    globals()[name] = value
    return value
