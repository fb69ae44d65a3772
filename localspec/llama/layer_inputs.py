"""Inputs of a target's layers, which an EAGLE-3 head reads, and the row that it makes of them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from localspec.errors import BackendError, MissingFeatureError
from localspec.llama.binding import clear_errors, first_error, free_with, lib, shared_libraries
from localspec.llama.rows import RowView
from localspec.llama.symbols import function
from localspec.protocols import Rows

#: Names in llama.cpp's libraries of functions that its C interface does not have yet.
_SET = "_Z30llama_set_embeddings_layer_inpP13llama_contextjb"
_GET = "_Z30llama_get_embeddings_layer_inpP13llama_contextj"


class LayerInputs:
    """The inputs of some layers for each token of the last pass, side by side.

    Raises :class:`MissingFeatureError` where the build lacks them.
    """

    def __init__(self, handle: Any, n_embd: int, layers: Sequence[int]) -> None:
        """Switch them on in a context whose model is ``n_embd`` wide."""
        libraries = shared_libraries()
        try:
            switch = function(libraries, _SET, None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_bool)
            get = function(libraries, _GET, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32)
        except MissingFeatureError as error:
            raise MissingFeatureError(
                "this build of llama.cpp gives no inputs of layers, which EAGLE-3 heads read; use `-d ngram`."
            ) from error
        for layer in layers:
            switch(handle, layer, True)
        what = "inputs of layers; this target cannot feed an EAGLE-3 head"
        self._views = [RowView(lambda h, layer=layer: get(h, layer), n_embd, what) for layer in layers]

    def rows(self, handle: Any, n: int) -> Rows:
        """Of the first ``n`` tokens: shape (n, layers · n_embd)."""
        return np.concatenate([view.rows(handle, n) for view in self._views], axis=1)


class LayerEncoder:
    """The first product of an EAGLE-3 head: rows of three layers' inputs to rows of its own width."""

    def __init__(self, handle: Any, hidden: Callable[[int], Rows], width: int, batch: int) -> None:
        """``hidden``: gives the head's first hidden rows. ``width``: of the inputs. ``batch``: most rows at once."""
        self._handle, self._hidden, self._most = handle, hidden, batch
        self._batch = lib.llama_batch_init(batch, width, 1)
        self._free = free_with(self, lib.llama_batch_free, self._batch)

    def encode(self, inputs: Rows, into: Rows) -> None:
        """Write the rows for ``inputs``, shape (n, width), to ``into``, shape (n, n_embd)."""
        for at in range(0, len(inputs), self._most):
            part = np.ascontiguousarray(inputs[at : at + self._most])
            n = self._batch.n_tokens = len(part)
            ctypes.memmove(self._batch.embd, part.ctypes.data, part.nbytes)
            # positions do not matter here, but llama.cpp wants them to follow those of its cells
            first = lib.llama_memory_seq_pos_max(lib.llama_get_memory(self._handle), 0) + 1
            for i in range(n):
                self._batch.pos[i], self._batch.n_seq_id[i], self._batch.seq_id[i][0] = first + i, 1, 0
                self._batch.logits[i] = 1
            clear_errors()
            code = lib.llama_encode(self._handle, self._batch)
            if code != 0:
                raise BackendError(f"llama.cpp failed to encode {n} rows (code {code}): {first_error()}.")
            into[at : at + n] = self._hidden(n)

    def close(self) -> None:
        """Free the batch. May be called twice."""
        self._free()
