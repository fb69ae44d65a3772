"""End a pass that runs, from another thread. llama.cpp asks a function after each node of its graph whether to go on.

It is C's ``strlen``, on a text of no or one character: a function of Python would need the interpreter's lock a
thousand times in a pass.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

from localspec.llama.binding import lib

#: Code of llama_decode for a pass that was ended. The cache has none of its tokens.
ABORTED = 2


class AbortedError(Exception):
    """A pass was ended by an :class:`Abort`. Never leaves the rooms that use one."""


class Abort:
    """Ends the passes of contexts while it is on. Only the CPU's backend asks without becoming slower."""

    def __init__(self) -> None:
        self._text = ctypes.create_string_buffer(2)
        self._length = ctypes.cast(_c_library().strlen, lib.ggml_abort_callback)

    def switch(self, *, on: bool) -> None:
        """End what runs and what begins, or let it run."""
        self._text[0] = b"x" if on else b"\0"

    def install(self, handle: Any) -> None:
        """Let the passes of a llama_context end. It must not outlive this object."""
        lib.llama_set_abort_callback(handle, self._length, ctypes.cast(self._text, ctypes.c_void_p))


def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL("msvcrt" if sys.platform == "win32" else None)
