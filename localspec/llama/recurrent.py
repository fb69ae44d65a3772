"""How far a sequence with recurrent layers can be rewound, and checkpoints of its state.

The state after a token replaces the one before it. llama.cpp keeps those of the last tokens of a pass, at most
``n_rs_seq`` and never the one before the pass, and goes back to one of them once (``llama-memory-recurrent.cpp``).
So a rewind is noted, and carried out before the next pass. A rewind that goes further returns to a checkpoint.
"""

from __future__ import annotations

import ctypes
from typing import NamedTuple

from localspec.errors import BackendError
from localspec.llama.binding import lib
from localspec.llama.passes import Native

#: Checkpoints of a sequence that are kept; the oldest goes first.
CHECKPOINTS = 4
#: llama.cpp's LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY: the recurrent state without the cells of attention.
_PARTIAL = 1


class _Checkpoint(NamedTuple):
    """The state after ``length`` tokens."""

    length: int
    state: ctypes.Array[ctypes.c_uint8]


class RecurrentState:
    """Rollback of one sequence: the lengths to which its state can return."""

    def __init__(self, native: Native, sequence: int, rollback: int) -> None:
        """``rollback``: states of a pass that llama.cpp keeps beside the last."""
        self._native, self._sequence, self._rollback = native, sequence, rollback
        self._checkpoints: list[_Checkpoint] = []
        #: A checkpoint that the next one of its kind replaces.
        self._brief: _Checkpoint | None = None
        #: Tokens in the cache, and the least of them that llama.cpp can go back to.
        self._held = self._least = 0

    def decoded(self, length: int, count: int) -> None:
        """Note a pass of ``count`` tokens, after which the cache holds ``length``."""
        self._held, self._least = length, length - min(self._rollback, count - 1)

    def lost(self) -> None:
        """Note that the cache may hold anything: only checkpoints can be trusted."""
        self._least = self._held + 1

    def reach(self, length: int) -> int:
        """Return the length to which a rewind to ``length`` goes."""
        if length >= self._least:
            return length
        return max((one.length for one in self._all() if one.length <= length), default=0)

    def rewind(self, length: int) -> int:
        """Go back to ``length`` tokens, or further to a checkpoint or to the beginning; returns the tokens left."""
        found = self.reach(length)
        self._checkpoints = [one for one in self._checkpoints if one.length <= found]
        if self._brief is not None and self._brief.length > found:
            self._brief = None
        if length < self._least:
            self._return(found)
        return found

    def settle(self, length: int) -> None:
        """Bring the cache to the ``length`` tokens that the last rewind left."""
        if length < self._held:
            if not self._native.remove(self._sequence, length):
                raise BackendError(f"llama.cpp could not take back {self._held - length} tokens of a recurrent state.")
            self._held = self._least = length

    def mark(self, length: int, *, brief: bool = False) -> None:
        """Make a checkpoint of the settled cache of ``length`` tokens, unless there is one."""
        if length and length not in (one.length for one in self._all()):
            made = _Checkpoint(length, self.saved())
            if brief:
                self._brief = made
            else:
                self._checkpoints = [*self._checkpoints, made][-CHECKPOINTS:]

    def copy_from(self, other: RecurrentState, length: int) -> None:
        """Take over the state and the checkpoints of another settled sequence, whose cells were copied."""
        self._checkpoints, self._brief = list(other._checkpoints), None
        self._restore(other.saved())
        self._held = self._least = length

    @property
    def newest(self) -> _Checkpoint | None:
        """The last checkpoint that is kept for long."""
        return self._checkpoints[-1] if self._checkpoints else None

    def replaced(self, length: int, marked: int = 0, checkpoint: bytes = b"") -> None:
        """Note that another state was read into the cache, with a ``checkpoint`` of ``marked`` tokens (0: none)."""
        self._checkpoints.clear()
        if marked:
            kept = (ctypes.c_uint8 * len(checkpoint)).from_buffer_copy(checkpoint)
            self._checkpoints.append(_Checkpoint(marked, kept))
        self._brief, self._held, self._least = None, length, length

    def saved(self) -> ctypes.Array[ctypes.c_uint8]:
        """Return the recurrent state as bytes."""
        handle, sequence = self._native.handle, self._sequence
        size = int(lib.llama_state_seq_get_size_ext(handle, sequence, _PARTIAL))
        buffer = (ctypes.c_uint8 * size)()
        if int(lib.llama_state_seq_get_data_ext(handle, buffer, size, sequence, _PARTIAL)) != size:
            raise BackendError("llama.cpp could not save the recurrent state; there may not be enough memory.")
        return buffer

    def _all(self) -> list[_Checkpoint]:
        return [*self._checkpoints, *([self._brief] if self._brief else [])]

    def _return(self, length: int) -> None:
        """Bring the cache to a checkpoint of ``length`` tokens, or empty it."""
        found = next((one for one in self._all() if one.length == length), None)
        if found is not None:
            self._restore(found.state)
        self._native.remove(self._sequence, length)
        self._held = self._least = length

    def _restore(self, state: ctypes.Array[ctypes.c_uint8]) -> None:
        size = len(state)
        done = lib.llama_state_seq_set_data_ext(self._native.handle, state, size, self._sequence, _PARTIAL)
        if int(done) != size:
            raise BackendError("llama.cpp could not restore a checkpoint of the recurrent state.")
