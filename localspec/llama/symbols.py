"""Look-up of C functions in llama.cpp's libraries that its Python binding leaves out."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from localspec.errors import MissingFeatureError


def function(libraries: Sequence[ctypes.CDLL], name: str, result: Any, *arguments: Any) -> Any:
    """``name`` as a new callable of these types. Raises MissingFeatureError where no library has it."""
    for library in libraries:
        found = getattr(library, name, None)
        if found is not None:
            return ctypes.CFUNCTYPE(result, *arguments)(ctypes.cast(found, ctypes.c_void_p).value or 0)
    raise MissingFeatureError(f"this build of llama.cpp lacks {name}; install llama-cpp-python 0.3.36 or newer.")
