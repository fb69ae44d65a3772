"""Rows in memory of two processes."""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref

import numpy as np

from localspec.protocols import Rows


class SharedRows:
    """Rows of logits, and hidden rows behind them: shapes (rows, n_vocab) and (rows, n_hidden)."""

    def __init__(self, path: str, rows: int, n_vocab: int, n_hidden: int) -> None:
        """``path``: a :class:`SharedFile` of :func:`rows_bytes`."""
        with open(path, "r+b") as file:
            memory = mmap.mmap(file.fileno(), rows_bytes(rows, n_vocab, n_hidden))
        floats = np.frombuffer(memory, np.float32)
        self.logits: Rows = floats[: rows * n_vocab].reshape(rows, n_vocab)
        self.hidden: Rows = floats[rows * n_vocab : rows * (n_vocab + n_hidden)].reshape(rows, n_hidden)


def rows_bytes(rows: int, n_vocab: int, n_hidden: int) -> int:
    return max(1, 4 * rows * (n_vocab + n_hidden))


class SharedFile:
    """A file in memory that another process opens by ``path``. It goes with this object."""

    def __init__(self, size: int) -> None:
        if hasattr(os, "memfd_create"):  # goes with this process even where that is killed
            handle = os.memfd_create("localspec")
            self.path = f"/proc/{os.getpid()}/fd/{handle}"
            weakref.finalize(self, os.close, handle)
            os.truncate(handle, size)
            return
        handle, self.path = tempfile.mkstemp()
        os.truncate(handle, size)
        os.close(handle)
        weakref.finalize(self, os.unlink, self.path)
