"""The only module that imports ``llama_cpp``: initialisation, log, and look-up of functions and devices."""

from __future__ import annotations

import ctypes
import os
import re
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from localspec.errors import BackendError, MissingFeatureError
from localspec.llama.bare_package import bare_package
from localspec.llama.devices import Device, list_devices
from localspec.llama.threads import brief_spinning

#: Name of the variable by which a user chooses other libraries of llama.cpp than those of the package.
LIBRARIES = "LLAMA_CPP_LIB_PATH"
try:
    with brief_spinning(), bare_package("llama_cpp"):  # its own code imports what nothing here uses
        import llama_cpp
        import llama_cpp.llama_cpp as lib
except (AttributeError, OSError, RuntimeError) as error:  # a function is missing, no library, one that does not load
    if LIBRARIES not in os.environ:
        raise
    raise BackendError(
        f"llama.cpp cannot be loaded from the folder that {LIBRARIES} names ({os.environ[LIBRARIES]}): {error}. "
        "Unset the variable, or give a folder with libllama of the same llama.cpp as llama-cpp-python's."
    ) from error

__all__ = [
    "LIBRARIES", "address_getter", "bindings", "build_id", "clear_errors", "devices", "first_error", "free_with",
    "initialise", "lib", "library_folder", "mtmd", "set_fields", "shared_libraries", "staging_function", "system_info",
]  # fmt: skip
#: llama.cpp's log level of errors.
_LOG_ERROR = 4

_verbose = False
_initialised = False


class _Errors(threading.local):
    """Errors that llama.cpp logged in this thread: models are loaded in several at the same time."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=8)


_errors = _Errors()


@lib.llama_log_callback  # type: ignore[untyped-decorator]
def _log(level: int, text: bytes, _: Any) -> None:
    if level == _LOG_ERROR:
        _errors.lines.append(text.decode("utf-8", errors="replace").strip())
    if _verbose:
        sys.stderr.write(text.decode("utf-8", errors="replace"))


@cache
def _version() -> str:
    """The version of llama-cpp-python, from the text of the package's own code, which need not run for it."""
    found = re.search(r"^__version__ = \"(.+)\"", Path(llama_cpp.__file__).read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else str(llama_cpp.__version__)


def initialise(verbose: bool) -> None:
    """Initialise llama.cpp once per process; ``verbose`` sends its log to stderr."""
    global _initialised, _verbose  # noqa: PLW0603 - llama.cpp has one log per process
    _verbose = verbose
    if not _initialised:
        lib.llama_log_set(_log, ctypes.c_void_p(0))
        lib.llama_backend_init()
        _initialised = True


def bindings() -> Any:
    """The ctypes bindings of llama.h, initialised."""
    initialise(_verbose)
    return lib


@cache
def mtmd() -> Any:
    """The ctypes bindings of mtmd.h. Raises MissingFeatureError where they cannot be loaded."""
    initialise(_verbose)
    if LIBRARIES in os.environ:
        os.environ.setdefault("MTMD_CPP_LIB", str(library_folder()))
    try:
        import llama_cpp.mtmd_cpp as found

        found.mtmd_helper_log_set(_log, ctypes.c_void_p(0))
    except (AttributeError, ImportError, OSError, RuntimeError) as error:
        raise MissingFeatureError(
            f"this installation of llama-cpp-python cannot read pictures or sounds ({error}); "
            "install llama-cpp-python 0.3.36 or newer with its libmtmd."
        ) from error
    return found


def free_with(owner: object, free: Callable[..., object], *args: object) -> Callable[[], object]:
    """Call ``free(*args)`` when ``owner`` is collected, at exit, or when the result is called; once.

    Never in a forked process: there the memory is a copy, and the threads that llama.cpp would join do not exist.
    """
    return weakref.finalize(owner, _free_here, os.getpid(), free, args)


def _free_here(process: int, free: Callable[..., object], args: Sequence[object]) -> None:
    if os.getpid() == process:
        free(*args)


def clear_errors() -> None:
    """Forget the errors that llama.cpp logged in this thread so far."""
    _errors.lines.clear()


def first_error() -> str:
    """The first error that llama.cpp logged in this thread since :func:`clear_errors`; later ones follow from it."""
    lines = [line.split(": ", 1)[-1] for line in _errors.lines if line]
    return lines[0] if lines else "llama.cpp gave no reason"


def set_fields(struct: Any, **values: Any) -> Any:
    """Set fields of a ctypes structure. Raises MissingFeatureError for one that it lacks, which ctypes would not."""
    names = {name for name, *_ in struct._fields_}
    for name, value in values.items():
        if name not in names:
            raise MissingFeatureError(
                f"llama-cpp-python {_version()} has no {type(struct).__name__}.{name}; "
                "install llama-cpp-python 0.3.36 or newer."
            )
        setattr(struct, name, value)
    return struct


def staging_function(name: str) -> Any:
    """A function of llama.cpp's staging API, which may differ between releases."""
    try:
        import llama_cpp.llama_cpp_ext as ext

        return getattr(ext, name)
    except (ImportError, AttributeError) as error:
        raise MissingFeatureError(
            f"llama-cpp-python {_version()} lacks {name}, which assistants and prediction heads need; "
            "install llama-cpp-python 0.3.36 or newer, or use `-d ngram`."
        ) from error


def address_getter(function: Any) -> Any:
    """A copy of ``function(ctx)`` that returns an address. Setting types on the original would change it for all."""
    return ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(ctypes.cast(function, ctypes.c_void_p).value or 0)


def library_folder() -> Path:
    """The folder that llama.cpp was loaded from: the package's, or the one that the user chose."""
    return Path(lib._lib._name).absolute().parent


def shared_libraries() -> list[ctypes.CDLL]:
    """The loaded libraries, for functions that ``llama_cpp`` does not bind.

    They are those that llama.cpp runs on: another copy would have its own devices and settings.
    """
    if sys.platform != "win32":
        return [lib._lib]  # the loader looks in the libraries that it depends on as well
    names = [library_folder() / f"{name}.dll" for name in ("ggml", "ggml-base")]
    return [lib._lib, *(ctypes.CDLL(str(name)) for name in names if name.exists())]


def devices() -> list[Device]:
    """The devices that llama.cpp can compute on."""
    initialise(_verbose)
    return list_devices(shared_libraries())


def system_info() -> str:
    """llama.cpp's line about its build and this CPU."""
    initialise(_verbose)
    return bytes(lib.llama_print_system_info()).decode(errors="replace").strip()


def build_id() -> str:
    """Text that differs between builds of llama.cpp and between CPUs."""
    found = f"{_version()} {system_info()}"
    if LIBRARIES not in os.environ:
        return found
    folder = library_folder()
    newest = max(file.stat().st_mtime_ns for file in folder.iterdir() if "llama" in file.name or "ggml" in file.name)
    return f"{found} {folder} {newest}"  # builds of one release may differ in nothing else
