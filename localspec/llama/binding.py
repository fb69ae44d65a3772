"""The seam to llama.cpp: the only module that imports ``llama_cpp``.

Its log, its features, its devices. Models and contexts are beside it (``llama_model.py``, ``llama_context.py``).
"""

from __future__ import annotations

import ctypes
import sys
from collections import deque
from contextlib import suppress
from typing import Any

import llama_cpp
import llama_cpp.llama_cpp as lib

from localspec.errors import MissingFeatureError
from localspec.llama.devices import Device, list_devices

__all__ = [
    "address_getter", "bindings", "build", "devices", "fill", "forget_errors", "lib", "libraries", "staging", "start",
    "system_info", "why",
]  # fmt: skip
_LOG_ERROR = 4

_errors: deque[str] = deque(maxlen=8)
_verbose = False


@lib.llama_log_callback  # type: ignore[untyped-decorator]
def _log(level: int, text: bytes, _: Any) -> None:
    if level == _LOG_ERROR:
        _errors.append(text.decode("utf-8", errors="replace").strip())
    if _verbose:
        sys.stderr.write(text.decode("utf-8", errors="replace"))


_started = False


def start(verbose: bool) -> None:
    """Initialise llama.cpp once; send its log to stderr or nowhere."""
    global _started, _verbose  # noqa: PLW0603 - llama.cpp has one log per process
    _verbose = verbose
    if not _started:
        lib.llama_log_set(_log, ctypes.c_void_p(0))
        lib.llama_backend_init()
        _started = True


def forget_errors() -> None:
    """What llama.cpp logged so far has nothing to do with what comes."""
    _errors.clear()


def why() -> str:
    """The reason that llama.cpp logged since :func:`forget_errors`, most telling line first."""
    lines = [line.split(": ", 1)[-1] for line in _errors if line]
    return lines[0] if lines else "llama.cpp gave no reason"


def fill(struct: Any, **values: Any) -> Any:
    """Set fields that exist: ctypes takes any attribute name silently."""
    names = {name for name, *_ in struct._fields_}
    for name, value in values.items():
        if name not in names:
            raise MissingFeatureError(
                f"llama-cpp-python {llama_cpp.__version__} has no {type(struct).__name__}.{name}; "
                "install llama-cpp-python 0.3.36 or newer."
            )
        setattr(struct, name, value)
    return struct


def staging(name: str) -> Any:
    """A function of llama.cpp's staging API, which comes and goes between releases."""
    try:
        import llama_cpp.llama_cpp_ext as ext

        return getattr(ext, name)
    except (ImportError, AttributeError) as error:
        raise MissingFeatureError(
            f"llama-cpp-python {llama_cpp.__version__} lacks {name}, which the Gemma 4 assistant needs; "
            "install llama-cpp-python 0.3.36 or newer, or use `-d ngram`."
        ) from error


def address_getter(function: Any) -> Any:
    """``function(ctx)`` as one that returns an address: setting types on llama_cpp's own would change it for all."""
    return ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(ctypes.cast(function, ctypes.c_void_p).value or 0)


def bindings() -> Any:
    """llama.h as ``llama_cpp`` binds it, started, for the other modules of the seam."""
    start(_verbose)
    return lib


def libraries() -> list[ctypes.CDLL]:
    """The loaded libraries, in which the seam looks up what ``llama_cpp`` does not bind."""
    from llama_cpp import _ggml

    found = [_ggml.libggml, lib._lib]
    with suppress(OSError, RuntimeError):  # some builds have all of ggml in one library
        found.append(_ggml.ctypes_ext.load_shared_library("ggml-base", _ggml.libggml_base_path))
    return found


def devices() -> list[Device]:
    """What llama.cpp can compute on."""
    start(_verbose)
    return list_devices(libraries())


def system_info() -> str:
    """llama.cpp's own line about its build and this CPU."""
    start(_verbose)
    return bytes(lib.llama_print_system_info()).decode(errors="replace").strip()


def build() -> str:
    """Which llama.cpp this is: the version of its bindings, and what it was built for and found."""
    return f"{llama_cpp.__version__} {system_info()}"
