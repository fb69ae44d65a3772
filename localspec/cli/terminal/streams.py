"""The standard streams: replaced where they are closed, UTF-8 where they are no terminal."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress


def prepare_streams() -> None:
    """Make the standard streams usable whatever they are.

    A closed stream becomes the null device, so that no other file gets its number. Output that is no terminal is UTF-8,
    unless ``PYTHONIOENCODING`` is set; characters that cannot be encoded are replaced.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest free number, which is this one
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - open to the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            keep = stream.isatty() or os.environ.get("PYTHONIOENCODING")
            stream.reconfigure(encoding=None if keep else "utf-8", errors="replace")


def flush_output() -> OSError | None:
    """Flush standard output here, where an error can still be handled, and not at interpreter exit.

    Returns the error, except for a pipe whose reader has closed it.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        with suppress(OSError, ValueError):  # the rest of the buffer is dropped
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return None if isinstance(error, BrokenPipeError) else error
    return None
